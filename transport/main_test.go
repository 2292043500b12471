package transport_test

import (
	"testing"

	"github.com/maniple-hpc/maniple/transport/transporttest"
)

func TestMain(m *testing.M) { transporttest.Main(m) }
