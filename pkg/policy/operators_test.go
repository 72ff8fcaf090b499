package policy

import (
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/envoy/envoytest"
	"github.com/atoll-mesh/atoll/pkg/ir"
)

// What Envoy does not know becomes text, everything else stays.
func TestLiteral(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "plain": "plain", "%%": "%%", "100%": "100%%", "100% of": "100%% of", "%": "%%", "%%%": "%%%%",
		"%B%":                        "%%B%%",
		"%START_TIME%":               "%START_TIME%",
		"%START_TIME(%s.%3f)% x":     "%START_TIME(%s.%3f)% x",
		"%PROTOCOL(x)%":              "%%PROTOCOL(x)%%",
		"%PROTOCOL:3%":               "%%PROTOCOL:3%%",
		"%REQ%":                      "%%REQ%%",
		"%REQ()%":                    "%%REQ()%%",
		"%REQ(A?B):10%":              "%REQ(A?B):10%",
		"%REQ(A?B?C)%":               "%%REQ(A?B?C)%%",
		"%protocol% %PROTOCOL%":      "%%protocol%% %PROTOCOL%",
		"%B%%PROTOCOL%":              "%%B%%%PROTOCOL%",
		"%CEL(size(request.path))%":  "%CEL(size(request.path))%",
		"%METADATA(ROUTE:a:b)%":      "%METADATA(ROUTE:a:b)%",
		"%METADATA(ELSEWHERE:a)%":    "%%METADATA(ELSEWHERE:a)%%",
		"%FILTER_STATE(a:PLAIN)%":    "%FILTER_STATE(a:PLAIN)%",
		"%FILTER_STATE(a:STRANGE)%":  "%%FILTER_STATE(a:STRANGE)%%",
		"%GRPC_STATUS(NUMBER)%":      "%GRPC_STATUS(NUMBER)%",
		"%GRPC_STATUS(ROMAN)%":       "%%GRPC_STATUS(ROMAN)%%",
		"%REQUESTED_SERVER_NAME%":    "%REQUESTED_SERVER_NAME%",
		"%KUMA_MESH% %KUMA_UNKNOWN%": "%%KUMA_MESH%% %%KUMA_UNKNOWN%%",
	} {
		if got, strange := Literal(in); got != want || (strange == "") != (in == want) {
			t.Errorf("%s becomes %s, want %s; strange is %q", in, got, want, strange)
		}
	}
}

// What is written to a listener of Envoy with any of the operators is accepted,
// and what is taken for text is what Envoy would refuse.
func TestOperatorsOfEnvoy(t *testing.T) {
	params := map[string]string{
		"COALESCE": `{"operators": ["PROTOCOL"]}`, "COMMON_DURATION": "DS_RX_BEG:DS_TX_END:ms", "METADATA": "ROUTE:a",
		"GRPC_STATUS": "NUMBER", "PATH": "NQ", "QUERY_PARAMS": "ORIG", "REQUESTED_SERVER_NAME": "SNI_FIRST", "CEL": "request.path", "REQ": "A?B",
	}
	var all []string
	for name, s := range operators {
		p, given := params[name]
		if !given {
			p = "x"
		}
		if !s.required {
			all = append(all, "%"+name+"%")
		}
		if s.check == nil || s.check(p) {
			all = append(all, "%"+name+"("+p+")%")
		}
		if s.length && s.required {
			all = append(all, "%"+name+"("+p+"):5%")
		}
	}
	format := strings.Join(append(all, "100% %B% %REQ% %protocol%"), " ")
	entry := func(text string) map[string]*ir.Config {
		return map[string]*ir.Config{"log": {
			Listeners: []*ir.Listener{{Name: "l", Address: "127.0.0.1", Port: 1, Chains: []*ir.Chain{{HTTP: &ir.HTTP{
				StatPrefix: "l", RouteConfig: "l", Logs: []ir.AccessLog{{Path: "/dev/null", Text: text}},
			}}}}},
			Routes: []*ir.RouteConfig{{Name: "l", VirtualHost: "l"}},
		}}
	}
	text, _ := Literal(format)
	envoytest.Validate(t, entry(text))
}
