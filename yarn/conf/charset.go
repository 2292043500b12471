package conf

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// decoder reads XML that is written in UTF-8, UTF-16, or in bytes that are a letter each: those that editors have made such files in.
func decoder(r io.Reader) *xml.Decoder {
	in := bufio.NewReader(r)
	text := io.Reader(in)
	begin, _ := in.Peek(4) // what fails is said when it is read
	for high, marks := range [2][]string{{"\xfe\xff", "\x00<\x00?"}, {"\xff\xfe", "<\x00?\x00"}} {
		for _, mark := range marks {
			if strings.HasPrefix(string(begin), mark) {
				text = &runes{next: func() (rune, error) { return pair(in, high) }}
			}
		}
	}
	d := xml.NewDecoder(text)
	d.CharsetReader = charset
	return d
}

// charset reads what is not UTF-8 by its own word.
func charset(label string, in io.Reader) (io.Reader, error) {
	letters := ""
	switch strings.ToLower(label) {
	case "utf-16", "utf-16le", "utf-16be": // it came as such, or is none
		return in, nil
	case "us-ascii", "ascii", "iso-8859-1", "iso8859-1", "iso8859_1", "latin1", "latin-1":
	case "windows-1252", "cp1252":
		letters = "€\u0081‚ƒ„…†‡ˆ‰Š‹Œ\u008dŽ\u008f\u0090‘’“”•–—˜™š›œ\u009džŸ"
	case "iso-8859-15", "iso8859-15", "latin-9":
		return bytewise(in, map[byte]rune{0xa4: '€', 0xa6: 'Š', 0xa8: 'š', 0xb4: 'Ž', 0xb8: 'ž', 0xbc: 'Œ', 0xbd: 'œ', 0xbe: 'Ÿ'}), nil
	default:
		return nil, fmt.Errorf("it is written in %q, and UTF-8, UTF-16, ISO-8859-1, ISO-8859-15 and windows-1252 are known: write it in UTF-8", label)
	}
	other, at := map[byte]rune{}, byte(0x80)
	for _, r := range letters {
		other[at] = r
		at++
	}
	return bytewise(in, other), nil
}

// bytewise reads bytes that are the letters of their numbers, but for some.
func bytewise(r io.Reader, other map[byte]rune) io.Reader {
	in := bufio.NewReader(r)
	return &runes{next: func() (rune, error) {
		b, err := in.ReadByte()
		if c, is := other[b]; is {
			return c, err
		}
		return rune(b), err
	}}
}

// pair reads a letter of UTF-16, of which the byte high of each two is worth more.
func pair(in *bufio.Reader, high int) (rune, error) {
	unit := func() (rune, error) {
		var b [2]byte
		_, err := io.ReadFull(in, b[:])
		return rune(b[high])<<8 | rune(b[1-high]), err
	}
	c, err := unit()
	if err != nil || !utf16.IsSurrogate(c) {
		return c, err
	}
	low, err := unit()
	return utf16.DecodeRune(c, low), err
}

// runes gives letters as UTF-8.
type runes struct {
	next func() (rune, error)
	rest []byte
}

func (r *runes) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		c, err := r.next()
		if err != nil {
			return 0, err
		}
		r.rest = utf8.AppendRune(r.rest[:0], c)
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
