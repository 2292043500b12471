package placement

import (
	"fmt"
	"slices"
	"strings"
)

// test is a parsed Need.
type test struct {
	key    string
	not    bool
	any    bool // whatever its value
	values []string
}

func (n Need) parse() (test, error) {
	t := test{key: n.Key}
	expr := strings.TrimSpace(n.Expr)
	expr, t.not = strings.CutPrefix(expr, "!")
	if list, ok := strings.CutPrefix(expr, "in("); ok {
		list, ok = strings.CutSuffix(list, ")")
		if !ok {
			return t, fmt.Errorf("placement: label %s=%s: the bracket is not closed; write in(a,b)", n.Key, n.Expr)
		}
		for v := range strings.SplitSeq(list, ",") {
			t.values = append(t.values, strings.TrimSpace(v))
		}
	} else if t.any = expr == "exists()"; !t.any {
		t.values = []string{expr}
	}
	if n.Key == "" {
		return t, fmt.Errorf("placement: a label without a name (=%s)", n.Expr)
	}
	if slices.Contains(t.values, "") {
		return t, fmt.Errorf("placement: label %s=%s has an empty value; write v, !v, in(a,b), !in(a,b), exists() or !exists()", n.Key, n.Expr)
	}
	return t, nil
}

// met tells whether a node's labels pass.
func (t *test) met(n *Node) bool {
	value, has := n.label(t.key)
	return (has && (t.any || slices.Contains(t.values, value))) != t.not
}

func (n *Node) label(key string) (string, bool) {
	at, found := slices.BinarySearchFunc(n.Labels, key, func(l Label, key string) int { return strings.Compare(l.Key, key) })
	if !found {
		return "", false
	}
	return n.Labels[at].Value, true
}
