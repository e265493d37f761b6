package mask

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestURL(t *testing.T) {
	for in, want := range map[string]string{
		"http://127.0.0.1:8500":           "http://127.0.0.1:8500",
		"http://[::1]:8500/x":             "http://[::1]:8500/x",
		"http://me:pass@host/x":           "http://***@host/x",
		"http://me:p@ss@host/x":           "http://***@host/x",
		"http://me:p w@host":              "http://***@host",
		"http://token@host":               "http://***@host",
		"http://tok/en@host":              "http://***@host",
		"http://me:/pass@host":            "http://***@host",
		"http://me:12/pass@host":          "http://***@host",
		"http://http//token@host":         "http://***@host",
		"http://host/r?to=me@there":       "http://host/r?to=***",
		"http://h/r?pass=abc&pw=d e&code": "http://h/r?pass=***&pw=***&***",
		"h:80/?code=a?b#c":                "h:80/?code=***",
		"http://h/r#abc":                  "http://h/r#***",
		"me:pass@host:80":                 "***@host:80",
		"http://h/r?token=abc&x=1":        "http://h/r?token=***&x=***",
		"http://h/r?x=1&api_key=abc#top":  "http://h/r?x=***&api_key=***",
		"http://me:pass127.0.0.1:8500/x":  "http://***/x",
		"http://me:pass:127.0.0.1:8500":   "http://***",
		"http://me:pa[ss127.0.0.1:8500":   "http://***",
	} {
		if got := URL(in); got != want {
			t.Errorf("URL(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestAddress(t *testing.T) {
	for in, want := range map[string]string{
		"a:1, b:2":                       "a:1, b:2",
		"::1:8001":                       "::1:8001",
		"tcp://10.0.0.1:80":              "tcp://10.0.0.1:80",
		"[::1]:80":                       "[::1]:80",
		"http://u:pass@h:80/?t=s3cret":   "***@h:80/?t=***",
		"h:80?t=s3cret":                  "h:80?t=***",
		"socks5://u:s3cret127.0.0.1:108": "socks5://***",
	} {
		if got := Address(in); got != want {
			t.Errorf("Address(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestName(t *testing.T) {
	for in, want := range map[string]string{
		"token": "token", " token": " token", "token ": "token ",
		"token: s3cret": "token…", "token s3cret": "token…", "to=s3cret": "to…", "token=": "token…", "": "",
	} {
		if got := Name(in); got != want {
			t.Errorf("Name(%q) = %q, want %q", in, got, want)
		}
	}
}
