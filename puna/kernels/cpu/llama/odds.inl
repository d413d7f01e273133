// From logits to odds, over plain doubles that the compiler puts side by side. Included within a namespace of its own.

// The greatest of each SIDE numbers; NaN where one of them is.
void tops(const double* row, int64_t blocks, double* most) {
  for (int64_t b = 0; b < blocks; b++, row += SIDE) {
    double top[8];
    int64_t lost[8] = {};
    for (int j = 0; j < 8; j++) top[j] = row[j];
    for (int i = 0; i < SIDE; i += 8) {
      for (int j = 0; j < 8; j++) {
        top[j] = row[i + j] > top[j] ? row[i + j] : top[j];
        lost[j] |= row[i + j] != row[i + j];
      }
    }
    for (int j = 1; j < 8; j++) top[0] = top[j] > top[0] ? top[j] : top[0], lost[0] |= lost[j];
    most[b] = lost[0] ? NAN : top[0];
  }
}

// exp(x) to the last bit or so, for x up to 0; 0 below -708.
inline double power(double x) {
  constexpr double SHIFT = 0x1.8p52;  // added to a small number, it leaves its whole part in the lowest bits
  const double shifted = x * 0x1.71547652b82fep0 + SHIFT, whole = shifted - SHIFT;  // x / ln 2
  double r = x - whole * 0x1.62e42fefa3800p-1;  // ln 2 in two parts: the first times `whole` is exact
  r -= whole * 0x1.ef35793c76730p-45;
  double p = 1.0 / 6227020800;
  for (double c : {1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720,
                   1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1.0, 1.0}) {
    p = p * r + c;
  }
  uint64_t bits, turned;
  std::memcpy(&bits, &shifted, 8), std::memcpy(&turned, &p, 8);
  turned += bits << 52;  // times two to `whole`
  std::memcpy(&p, &turned, 8);
  return x < -708 ? 0 : p;
}

// For each SIDE numbers, the sum of exp((x - most) * per).
void weigh(const double* row, int64_t blocks, double most, double per, double* sums) {
  for (int64_t b = 0; b < blocks; b++, row += SIDE) {
    double sum[8] = {};
    for (int i = 0; i < SIDE; i += 8) {
      for (int j = 0; j < 8; j++) sum[j] += power((row[i + j] - most) * per);
    }
    sums[b] = ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
  }
}
