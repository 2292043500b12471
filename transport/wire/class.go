package wire

// Class is the urgency of a message. A sender with frames of several classes ready sends those of
// the lowest first, so that a large argument never delays a cancel; order is kept within a class.
type Class uint8

// String is the name that logs and status show.
func (c Class) String() string {
	switch c {
	case ClassLiveness:
		return "liveness"
	case ClassControl:
		return "control"
	case ClassCalls:
		return "calls"
	case ClassData:
		return "data"
	}
	return "class(?)"
}

// ClassOf tells the class that messages of type t travel in. What it does not know is control.
func ClassOf(t Type) Class { return classOf(t) }
