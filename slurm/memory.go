package slurm

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ParseMemory reads a size as Slurm writes and takes it: a number with K, M, G, T or P (megabytes
// without one), and sacct's endings n (per node) and c (per core), which are dropped. The result is
// in bytes.
func ParseMemory(s string) (int64, error) {
	number := s
	if n := len(number); n > 1 && (number[n-1] == 'n' || number[n-1] == 'c') {
		number = number[:n-1]
	}
	upper := strings.ToUpper(number)
	if n := len(upper); n > 2 && upper[n-1] == 'B' {
		upper = upper[:n-1]
	}
	shift := 20
	if n := len(upper); n > 0 {
		if i := strings.IndexByte("KMGTP", upper[n-1]); i >= 0 {
			shift, upper = 10*(i+1), upper[:n-1]
		}
	}
	bad := fmt.Errorf("slurm: memory %q: not a size; write 4000M or 16G", clip(s))
	if strings.Trim(upper, "0123456789.") != "" || upper == "" {
		return 0, bad
	}
	v, err := strconv.ParseFloat(upper, 64)
	if err != nil || v*float64(int64(1)<<shift) >= math.MaxInt64 {
		return 0, bad
	}
	if n, err := strconv.ParseInt(upper, 10, 64); err == nil {
		return n << shift, nil
	}
	return int64(v * float64(int64(1)<<shift)), nil
}

// FormatMemory writes bytes as Slurm takes them: the largest unit that is exact, K at least.
func FormatMemory(bytes int64) string {
	if bytes <= 0 {
		return "0"
	}
	units, i := "KMGT", 0
	v := (bytes + 1023) / 1024
	for i < len(units)-1 && v%1024 == 0 {
		v /= 1024
		i++
	}
	return strconv.FormatInt(v, 10) + units[i:i+1]
}
