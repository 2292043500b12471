package placement

import (
	"fmt"
	"math/bits"
	"strings"
)

// suffixes are powers of 1024, as in Slurm: "4G", "4Gi", "4GiB" and "4GB" are the same.
const suffixes = "KMGTP"

// maxDigits keeps the mantissa of an amount within 64 bits.
const maxDigits = 18

// ParseAmount reads "2", "0.5", "4G", "512MiB". Without a suffix a number finer than 0.0001 is an error;
// with one it is rounded up to the next step, since 0.3G is no whole number of bytes.
func ParseAmount(s string) (Amount, error) {
	number, shift := splitSuffix(s)
	if number == "" {
		return 0, fmt.Errorf("placement: %q is no amount; write 2, 0.5 or 4G", s)
	}
	if number[0] == '-' {
		return 0, fmt.Errorf("placement: %q is negative", s)
	}
	whole, frac, _ := strings.Cut(number, ".")
	whole, frac = strings.TrimLeft(whole, "0"), strings.TrimRight(frac, "0")
	if number == "." {
		return 0, fmt.Errorf("placement: %q is no amount; write 2, 0.5 or 4G", s)
	}
	var mantissa uint64
	for _, c := range whole + frac {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("placement: %q is no amount; write 2, 0.5 or 4G", s)
		}
		mantissa = mantissa*10 + uint64(c-'0') // overflow is excluded below, before it is used
	}
	if shift == 0 && len(frac) > 4 {
		return 0, fmt.Errorf("placement: %q is finer than 0.0001", s)
	}
	if len(frac) > 12 {
		return 0, fmt.Errorf("placement: %q has too many digits", s)
	}
	if len(whole)+len(frac) > maxDigits {
		return 0, fmt.Errorf("placement: %q is too large", s)
	}
	scale := uint64(1)
	for range frac {
		scale *= 10
	}
	hi, lo := bits.Mul64(mantissa, uint64(One)<<shift)
	if hi >= scale {
		return 0, fmt.Errorf("placement: %q is too large", s)
	}
	steps, rest := bits.Div64(hi, lo, scale)
	if rest != 0 {
		steps++
	}
	if steps > uint64(Max) {
		return 0, fmt.Errorf("placement: %q is too large", s)
	}
	return Amount(steps), nil
}

func splitSuffix(s string) (number string, shift int) {
	at := strings.IndexFunc(s, func(c rune) bool { return (c < '0' || c > '9') && c != '.' && c != '-' })
	if at <= 0 {
		if at == 0 {
			return "", 0
		}
		return s, 0
	}
	power := strings.IndexByte(suffixes, s[at]&^0x20)
	switch strings.ToLower(s[at+1:]) {
	case "", "i", "b", "ib":
		if power >= 0 {
			return s[:at], 10 * (power + 1)
		}
	}
	return "", 0
}

// ParseResources reads "CPU=2,GPU=0.5,memory=4G,lic=1" and checks it as a request for one bundle.
func ParseResources(s string) (Resources, error) {
	var list []Resource
	var seen Resources
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			if strings.TrimSpace(s) == "" {
				break
			}
			return nil, fmt.Errorf("placement: %q has an empty part; write CPU=2,GPU=1", s)
		}
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			return nil, fmt.Errorf("placement: %q has no amount; write %s=1", part, part)
		}
		name, err := resourceName(strings.TrimSpace(name))
		if err != nil {
			return nil, err
		}
		amount, err := ParseAmount(strings.TrimSpace(value))
		if err != nil {
			return nil, fmt.Errorf("%w (%s)", err, name)
		}
		if _, twice := seen.find(name); twice {
			return nil, fmt.Errorf("placement: %s is given twice", name)
		}
		seen = seen.With(name, 1)
		list = append(list, Resource{name, amount})
	}
	r, err := Make(list...)
	if err != nil {
		return nil, err
	}
	return r, r.Check()
}

// Check says what is wrong with r as the request of one bundle.
func (r Resources) Check() error {
	for i, e := range r {
		switch name, err := resourceName(e.Name); {
		case err != nil:
			return err
		case name != e.Name:
			return fmt.Errorf("placement: %s is written %s", e.Name, name)
		case e.Amount < 0:
			return fmt.Errorf("placement: %s=%v is negative", e.Name, e.Amount)
		case e.Amount == 0 || i > 0 && r[i-1].Name >= e.Name:
			return fmt.Errorf("placement: resources are not in order at %s", e.Name)
		case e.Name == GPU && e.Amount > One && !e.Amount.IsWhole():
			return fmt.Errorf("placement: GPU=%v: more than one GPU must be a whole number", e.Amount)
		}
	}
	return nil
}

// resourceName checks a name and gives the known ones their spelling.
func resourceName(s string) (string, error) {
	switch strings.ToLower(s) {
	case "cpu":
		return CPU, nil
	case "gpu":
		return GPU, nil
	case "memory", "mem":
		return Memory, nil
	}
	if s == "" || len(s) > 100 {
		return "", fmt.Errorf("placement: %q is no name of a resource: 1 to 100 characters", s)
	}
	for i, c := range s {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || !(c >= '0' && c <= '9' || strings.ContainsRune("_-.:/", c))) {
			return "", fmt.Errorf("placement: %q is no name of a resource: a letter, then letters, digits and _-.:/", s)
		}
	}
	return s, nil
}

// String is what ParseResources reads: "CPU=2,GPU=0.5,memory=4G".
func (r Resources) String() string {
	var b strings.Builder
	for i, e := range r {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(e.Name)
		b.WriteByte('=')
		b.WriteString(format(e.Name, e.Amount))
	}
	return b.String()
}

// format writes memory with the largest suffix that is exact, and everything else as a decimal.
func format(name string, a Amount) string {
	if name != Memory || !a.IsWhole() || a == 0 {
		return a.String()
	}
	n, power := a/One, 0
	for n%1024 == 0 && power < len(suffixes) {
		n, power = n/1024, power+1
	}
	s := (n * One).String()
	if power > 0 {
		s += suffixes[power-1 : power]
	}
	return s
}
