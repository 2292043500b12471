package placement

// Explanation is why a request is not placed. Text is for people; the rest is what it was made from.
type Explanation struct {
	Verdict Verdict
	Summary string   // one line: "needs 16 GPU, the cluster has 8"
	Nodes   []string // one line per kind of node: "n[1-3]: 2 of 4 CPU free, held by gang train (3.1.7)"
	Advice  string   // the nearest shape that would fit: "2 bundles of {GPU=4} would fit now"
	Nearest *Request // that shape; nil: none
}

// Explain runs the request again and says why there is no plan; nil if there is one.
func Explain(v *View, r *Request) *Explanation { return nil }

// Text is the whole explanation, one line per statement.
func (e *Explanation) Text() string { return "" }
