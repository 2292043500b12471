package boot

import (
	"context"

	"github.com/maniple-hpc/maniple/launcher/backend"
	"github.com/maniple-hpc/maniple/launcher/backend/local"
)

// countingBackend keeps the session of its last Start.
type countingBackend struct {
	local.Backend
	session backend.Session
}

func (b *countingBackend) Start(ctx context.Context, req backend.Request) (s backend.Session, err error) {
	b.session, err = b.Backend.Start(ctx, req)
	return b.session, err
}
