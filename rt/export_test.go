package rt

import "context"

// Join makes the value of Concat in this process.
func Join(ctx context.Context, parts ...Part) ([]byte, error) {
	v, err := join(ctx, parts)
	return v.Bytes, err
}
