package main

import "fmt"

// maxDepth is what frame.fbs calls MaxDepth: the schema itself must stay below, or the verifier
// would refuse what our own code writes.
const maxDepth = 16

// resolve finds what the fields' types name, lays out the structs and numbers the slots.
func (s *schema) resolve(f *file) error {
	names := map[string]bool{}
	for _, e := range f.enums {
		if names[e.name] {
			return fmt.Errorf("%s is declared twice", e.name)
		}
		names[e.name] = true
		if err := fits(e); err != nil {
			return err
		}
	}
	for _, r := range s.records {
		if names[r.name] {
			return fmt.Errorf("%s is declared twice", r.name)
		}
		names[r.name] = true
	}
	for _, r := range s.records {
		seen := map[string]bool{}
		for i, fl := range r.fields {
			if seen[fl.name] {
				return fmt.Errorf("%s.%s is declared twice", r.name, fl.name)
			}
			seen[fl.name] = true
			fl.slot = 4 + 2*i
			if err := s.bind(r, fl); err != nil {
				return err
			}
		}
	}
	for _, r := range s.records {
		if _, err := s.depth(r, 0); err != nil {
			return err
		}
	}
	for _, r := range s.records {
		r.fills = fills(r)
	}
	return nil
}

func fits(e *enum) error {
	base := scalars[e.base]
	if base == nil || e.base[0] != 'u' {
		return fmt.Errorf("enum %s: base %s is no unsigned number", e.name, e.base)
	}
	for _, v := range e.values {
		if base.size < 8 && v.value>>(8*base.size) != 0 {
			return fmt.Errorf("enum %s: %s = %d is more than %s holds", e.name, v.name, v.value, e.base)
		}
	}
	return nil
}

func (s *schema) bind(r *record, f *field) error {
	where := r.name + "." + f.name
	if sc := scalars[f.typ]; sc != nil {
		f.scalar = sc
	} else if e := findEnum(s.enums, f.typ); e != nil {
		f.scalar = scalars[e.base]
	} else if f.record = s.record(f.typ); f.record == nil && !f.isString() {
		return fmt.Errorf("%s: type %s is not declared, or not one that this generator knows", where, f.typ)
	}
	switch {
	case f.vector && f.scalar != nil && f.scalar.size == 1 && !f.isBytes():
		return fmt.Errorf("%s: a vector of %s; make it [uint8]", where, f.typ)
	case f.vector && f.record != nil && f.record.fixed:
		return fmt.Errorf("%s: a vector of structs; make %s a table", where, f.typ)
	case r.fixed && (f.vector || f.isString() || f.record != nil && !f.record.fixed):
		return fmt.Errorf("%s: a struct holds numbers and structs only", where)
	}
	return nil
}

// depth lays r out after all that it holds, and gives how deep tables nest in it.
func (s *schema) depth(r *record, above int) (int, error) {
	if above >= maxDepth {
		return 0, fmt.Errorf("%s holds itself, or nests deeper than %d", r.name, maxDepth)
	}
	deepest, at := 0, 0
	for _, f := range r.fields {
		if f.record != nil {
			d, err := s.depth(f.record, above+1)
			if err != nil {
				return 0, err
			}
			deepest = max(deepest, d)
		}
		r.align = max(r.align, f.align())
		if r.fixed && at%f.align() != 0 {
			return 0, fmt.Errorf("%s.%s: hidden padding before it; order the fields by size or add a field called pad", r.name, f.name)
		}
		f.offset = at
		at += f.size()
		if !r.fixed {
			at += f.align() - 1
		}
	}
	if r.fixed && (at == 0 || at%r.align != 0) {
		return 0, fmt.Errorf("%s: hidden padding at its end; add a field called pad", r.name)
	}
	r.size = at
	return deepest + 1, nil
}

// fills tells whether flatc's UnPack leaves something of r to fill in.
func fills(r *record) bool {
	if r.fixed {
		return false
	}
	for _, f := range r.fields {
		if f.isBytes() || f.record != nil && (f.record.fixed || fills(f.record)) {
			return true
		}
	}
	return false
}
