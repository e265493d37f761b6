package dataplane

import "testing"

// TestUnreserved: the ports that listeners and outgoing connections share, and
// the setting that keeps them apart, which keeps what is reserved already.
func TestUnreserved(t *testing.T) {
	for _, tt := range []struct {
		wanted, source portRange
		reserved       string
		ports, setting string
	}{
		{portRange{1024, 49151}, portRange{32768, 60999}, "\n", "32768-49151", "32768-49151"},
		{portRange{1024, 49151}, portRange{32768, 60999}, "8080,40000-40010,49152,50000\n", "32768-39999,40011-49151", "8080,32768-49152,50000"},
		{portRange{1024, 49151}, portRange{32768, 60999}, "32768-49151\n", "", ""},
		{portRange{1024, 49151}, portRange{32768, 60999}, "1024-65535", "", ""},
		{portRange{1024, 49151}, portRange{32768, 60999}, "30000-40000,40001-49150", "49151", "30000-49151"},
		{portRange{1024, 32767}, portRange{32768, 60999}, "", "", ""},
		{portRange{5000, 5000}, portRange{1024, 65535}, "", "5000", "5000"},
		{portRange{1024, 49151}, portRange{32768, 60999}, "what is this,9-7", "32768-49151", "32768-49151"},
	} {
		ports, setting := unreserved(tt.wanted, tt.source, tt.reserved)
		if ports != tt.ports || setting != tt.setting {
			t.Errorf("%v of %v, %q reserved: %q, set %q; want %q, %q", tt.wanted, tt.source, tt.reserved, ports, setting, tt.ports, tt.setting)
		}
	}
}
