package nomad

import (
	"testing"

	"go.uber.org/goleak"

	"dill/dataplane/dptest"
)

func TestMain(m *testing.M) {
	dptest.Isolate()
	goleak.VerifyTestMain(m)
}
