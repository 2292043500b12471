package main

import (
	"fmt"
	"strconv"
	"strings"
)

// file is one parsed schema, its names not yet resolved.
type file struct {
	namespace string
	enums     []*enum
	records   []*record
}

// token is a word, a number or one mark; doc holds the comment lines right above it, and trail the
// comment behind it on the same line.
type token struct {
	text  string
	line  int
	doc   []string
	trail string
}

type parser struct {
	name   string
	tokens []*token
	next   int
}

func parse(name string, text []byte) (*file, error) {
	tokens, err := lex(string(text))
	if err != nil {
		return nil, fmt.Errorf("gen: %s: %w", name, err)
	}
	p := &parser{name: name, tokens: tokens}
	f := &file{}
	for p.peek() != "" {
		if err := p.declaration(f); err != nil {
			return nil, fmt.Errorf("gen: %s:%d: %w", name, p.line(), err)
		}
	}
	return f, nil
}

// lex cuts text into tokens. An empty line ends a comment that belongs to what follows.
func lex(text string) ([]*token, error) {
	var tokens []*token
	var doc []string
	for n, line := range strings.Split(text, "\n") {
		code, comment, has := strings.Cut(line, "//")
		comment = strings.TrimSpace(comment)
		if strings.TrimSpace(code) == "" {
			if has {
				doc = append(doc, comment)
			} else {
				doc = nil
			}
			continue
		}
		var last *token
		for i := 0; i < len(code); {
			switch c := code[i]; {
			case c == ' ' || c == '\t' || c == '\r':
				i++
				continue
			case strings.IndexByte("{}[]():;,=", c) >= 0:
				last = &token{text: code[i : i+1], line: n + 1}
				i++
			case word(c) || c == '-':
				j := i + 1
				for j < len(code) && word(code[j]) {
					j++
				}
				last = &token{text: code[i:j], line: n + 1}
				i = j
			default:
				return nil, fmt.Errorf("line %d: %q has no meaning here", n+1, c)
			}
			last.doc, doc = doc, nil
			tokens = append(tokens, last)
		}
		last.trail = comment
	}
	return tokens, nil
}

func word(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '.'
}

func (p *parser) peek() string {
	if p.next >= len(p.tokens) {
		return ""
	}
	return p.tokens[p.next].text
}

func (p *parser) line() int {
	if len(p.tokens) == 0 {
		return 0
	}
	return p.tokens[min(p.next, len(p.tokens)-1)].line
}

func (p *parser) take() *token {
	if p.next >= len(p.tokens) {
		return &token{}
	}
	p.next++
	return p.tokens[p.next-1]
}

func (p *parser) want(text string) error {
	if got := p.peek(); got != text {
		return fmt.Errorf("%q where %q belongs", got, text)
	}
	p.next++
	return nil
}

func (p *parser) ident() (*token, error) {
	t := p.take()
	if t.text == "" || !word(t.text[0]) || t.text[0] <= '9' {
		return nil, fmt.Errorf("%q where a name belongs", t.text)
	}
	return t, nil
}

func (p *parser) declaration(f *file) error {
	t := p.take()
	switch t.text {
	case "namespace":
		n, err := p.ident()
		if err != nil {
			return err
		}
		f.namespace = n.text
		return p.want(";")
	case "enum":
		e, err := p.enum(t.doc)
		f.enums = append(f.enums, e)
		return err
	case "struct", "table":
		r, err := p.record(t.doc, t.text == "struct")
		f.records = append(f.records, r)
		return err
	}
	return fmt.Errorf("%q: only namespace, enum, struct and table are part of our schema's language", t.text)
}

func (p *parser) enum(doc []string) (*enum, error) {
	n, err := p.ident()
	if err != nil {
		return nil, err
	}
	e := &enum{name: n.text, doc: doc}
	if err := p.want(":"); err != nil {
		return nil, err
	}
	e.base = p.take().text
	if err := p.want("{"); err != nil {
		return nil, err
	}
	var next uint64
	for p.peek() != "}" {
		v, err := p.ident()
		if err != nil {
			return nil, err
		}
		last := v
		if p.peek() == "=" {
			p.take()
			last = p.take()
			if next, err = strconv.ParseUint(last.text, 10, 64); err != nil {
				return nil, fmt.Errorf("enum %s: %s = %q is no number", e.name, v.text, last.text)
			}
		}
		if p.peek() == "," {
			last = p.take()
		}
		e.values = append(e.values, enumValue{name: v.text, value: next, doc: last.trail})
		next++
	}
	return e, p.want("}")
}

func (p *parser) record(doc []string, fixed bool) (*record, error) {
	n, err := p.ident()
	if err != nil {
		return nil, err
	}
	r := &record{name: n.text, doc: doc, fixed: fixed}
	if err := p.want("{"); err != nil {
		return nil, err
	}
	for p.peek() != "}" {
		f, err := p.field()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.name, err)
		}
		r.fields = append(r.fields, f)
	}
	return r, p.want("}")
}

func (p *parser) field() (*field, error) {
	n, err := p.ident()
	if err != nil {
		return nil, err
	}
	f := &field{name: n.text}
	if err := p.want(":"); err != nil {
		return nil, err
	}
	if f.vector = p.peek() == "["; f.vector {
		p.take()
	}
	t, err := p.ident()
	if err != nil {
		return nil, err
	}
	f.typ = t.text
	if f.vector {
		if err := p.want("]"); err != nil {
			return nil, err
		}
	}
	if p.peek() == "=" {
		p.take()
		f.def = p.take().text
		if _, err := strconv.ParseInt(f.def, 10, 64); err != nil {
			return nil, fmt.Errorf("%s = %q: a default is a number", f.name, f.def)
		}
	}
	if p.peek() != ";" {
		return nil, fmt.Errorf("%s: %q where \";\" belongs (attributes are not part of our schema's language)", f.name, p.peek())
	}
	f.doc = p.take().trail
	return f, nil
}
