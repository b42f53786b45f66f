package main_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"testing"
)

// TestValidationTexts calls "rules" with one field more: PROTOCOL.md section 2, "Validation texts".
func TestValidationTexts(t *testing.T) {
	t.Parallel()
	const (
		str, num, boolean, lst, obj = "must be a string", "must be a number", "must be a boolean", "must be a list",
			"must be an object"
		integer, float   = "must be an integer", "must be a float"
		email, uuid, url = "must be a valid email address", "must be a valid UUID", "must be a valid URL"
		iso8601, date    = "must be a valid ISO 8601 datetime", "must be a valid date (YYYY-MM-DD)"
		trimmed          = "must not have leading or trailing whitespace"
	)
	s := recorded(t)
	for field, cases := range map[string][][2]string{ // a value, and the text of its fault or ""
		"string": {{`"a"`, ""}, {`""`, ""}, {`null`, ""}, {`5`, str}, {`[]`, str}, {`false`, str}},
		"integer": {{`5`, ""}, {`-1`, ""}, {`0`, ""}, {`123456789012345678901234567890`, ""}, {`null`, ""}, {`5.0`, integer},
			{`5e0`, integer}, {`1.5`, integer}, {`"5"`, integer}, {`true`, integer}, {`[]`, integer}},
		"float":   {{`1.5`, ""}, {`5`, ""}, {`-1e400`, ""}, {`null`, ""}, {`"1.5"`, float}, {`true`, float}, {`{}`, float}},
		"number":  {{`1.5`, ""}, {`5`, ""}, {`1e400`, ""}, {`"5"`, num}, {`[1]`, num}, {`false`, num}},
		"boolean": {{`true`, ""}, {`false`, ""}, {`0`, boolean}, {`"true"`, boolean}, {`{}`, boolean}},
		"min": {{`3`, ""}, {`3.0`, ""}, {`1e400`, ""}, {`123456789012345678901234567890`, ""},
			{`2.999999999999999999999`, "must be at least 3"}, {`-1e400`, "must be at least 3"}, {`"3"`, num},
			{`"abc"`, num}, {`null`, ""}},
		"max": {{`3`, ""}, {`30e-1`, ""}, {`3.0000000000000000000001`, "must be at most 3"},
			{`4`, "must be at most 3"}, {`[]`, num}},
		"between": {{`1`, ""}, {`3`, ""}, {`2.5`, ""}, {`0`, "must be between 1 and 3"},
			{`3.1`, "must be between 1 and 3"}, {`true`, num}},
		"positive": {{`1`, ""}, {`1e-400`, ""}, {`0`, "must be positive"}, {`-0`, "must be positive"},
			{`-1`, "must be positive"}, {`"1"`, num}},
		"non_negative": {{`0`, ""}, {`-0`, ""}, {`-0.1`, "must be non-negative"}, {`"0"`, num}},
		"multiple_of": {{`5`, ""}, {`0`, ""}, {`-10`, ""}, {`1e2`, ""}, {`1000000000000000000005`, ""},
			{`7`, "must be a multiple of 5"}, {`1000000000000000000006`, "must be a multiple of 5"},
			{`"5"`, num}},
		"min_length": {{`"abc"`, ""}, {`"漢漢漢"`, ""}, {`"ab"`, "must be at least 3 characters"},
			{`"漢漢"`, "must be at least 3 characters"}, {`"é"`, "must be at least 3 characters"},
			{`""`, "must be at least 3 characters"}, {`[1,2,3]`, str}, {`5`, str}},
		"max_length": {{`""`, ""}, {`"abc"`, ""}, {`"😀😀😀"`, ""}, {`"abcd"`, "must be at most 3 characters"},
			{`"e\u0301e\u0301"`, "must be at most 3 characters"}, {`5`, str}},
		"length": {{`"abc"`, ""}, {`"👍🏽a"`, ""}, {`"ab"`, "must be exactly 3 characters"},
			{`"abcd"`, "must be exactly 3 characters"}, {`[1,2,3]`, str}},
		"regex": {{`"a"`, ""}, {`"aaa"`, ""}, {`"b"`, "has invalid format"}, {`""`, "has invalid format"},
			{`"aaa\n"`, "has invalid format"}, {`"b\naaa"`, "has invalid format"}, {`5`, str}},
		"starts_with": {{`"ab"`, ""}, {`"abc"`, ""}, {`"xab"`, `must start with "ab"`}, {`"a"`, `must start with "ab"`},
			{`["ab"]`, str}},
		"ends_with": {{`"yz"`, ""}, {`"yz "`, `must end with "yz"`}, {`"YZ"`, `must end with "yz"`}, {`5`, str}},
		"in": {{`"a"`, ""}, {`"b"`, ""}, {`1`, ""}, {`"c"`, "must be one of: a, b, 1"},
			{`"1"`, "must be one of: a, b, 1"}, {`2`, "must be one of: a, b, 1"}, {`["a"]`, "must be one of: a, b, 1"},
			{`true`, "must be one of: a, b, 1"}, {`null`, ""}},
		"not_in": {{`"a"`, ""}, {`"Root"`, ""}, {`["root"]`, ""}, {`"root"`, "contains a reserved or blocked value"},
			{`"admin"`, "contains a reserved or blocked value"}, {`"\u0061dmin"`, "contains a reserved or blocked value"}},
		"email": {{`"a@b.c"`, ""}, {`"a+b@c.d.e"`, ""}, {`"é@ü.de"`, ""}, {`"a@b"`, email}, {`"@b.c"`, email},
			{`"a@.c"`, email}, {`"a b@c.d"`, email}, {`"a@b.c "`, email}, {`"a@b.c\n"`, email}, {`"a@b.c\u00a0"`, email},
			{`""`, email},
			{`5`, str}},
		"uuid": {{`"550e8400-e29b-41d4-a716-446655440000"`, ""}, {`"550E8400-E29B-41D4-A716-446655440000"`, ""},
			{`"00000000-0000-0000-0000-000000000000"`, ""}, {`"ffffffff-ffff-ffff-ffff-ffffffffffff"`, ""},
			{`"0190f7a4-7a68-7c5e-8f5f-2d5f4d1c2b3a"`, ""}, {`"550e8400e29b41d4a716446655440000"`, uuid}, {`"{550e8400-e29b-41d4-a716-446655440000}"`, uuid}, {`"550e8400-e29b-41d4-a716-44665544000g"`, uuid}, {`""`, uuid}, {`5`, str}},
		"url": {{`"http://a"`, ""}, {`"https://a.b/c?d#e"`, ""}, {`"HTTP://a"`, ""}, {`"http://[::1]:80/"`, ""},
			{`"http://localhost"`, ""}, {`"ftp://a"`, url}, {`"javascript:alert(1)"`, url}, {`"//a"`, url}, {`"a.b"`, url},
			{`"http:///x"`, url},
			{`"http://a b"`, url}, {`"http://a\n"`, url}, {`""`, url}, {`5`, str}},
		"iso8601": {{`"2026-01-02T03:04:05Z"`, ""}, {`"2026-01-02T03:04:05.678+02:00"`, ""}, {`"2026-01-02"`, iso8601},
			{`"2026-13-02T03:04:05Z"`, iso8601}, {`"2026-02-30T03:04:05Z"`, iso8601}, {`"2026-01-02T25:04:05Z"`, iso8601},
			{`"now"`, iso8601},
			{`""`, iso8601}, {`5`, str}},
		"date": {{`"2026-01-02"`, ""}, {`"2024-02-29"`, ""}, {`"2026-02-29"`, date}, {`"2026-1-2"`, date},
			{`"2026-01-02T03:04:05Z"`, date}, {`"02.01.2026"`, date}, {`"2026-01-02 "`, date}, {`20260102`, str}},
		"trimmed": {{`"a"`, ""}, {`"a b"`, ""}, {`""`, ""}, {`" a"`, trimmed}, {`"a\n"`, trimmed}, {`"\ta"`, trimmed},
			{`"a\u2003"`, trimmed}, {`" "`, trimmed}, {`5`, str}},
		"list_of": {{`[]`, ""}, {`[1,2]`, ""}, {`[1,"a"]`, "index 1: must be an integer"},
			{`["a","b"]`, "index 0: must be an integer; index 1: must be an integer"}, {`[1.5]`, "index 0: must be an integer"}, {`"a"`, lst}, {`{}`, lst},
			{`5`, lst}},
		"min_items": {{`[1,2]`, ""}, {`[1,2,3]`, ""}, {`[1]`, "must have at least 2 items"},
			{`[]`, "must have at least 2 items"}, {`"ab"`, lst}, {`{"a":1,"b":2}`, lst}},
		"max_items":      {{`[]`, ""}, {`[1,2]`, ""}, {`[1,2,3]`, "must have at most 2 items"}, {`5`, lst}},
		"fn3":            {{`2`, ""}, {`0`, ""}, {`null`, ""}, {`3`, "must be even"}, {`"x"`, "must be even"}},
		"nested":         {{`null`, ""}, {`{"a":1}`, ""}, {`{"a":1,"b":"x","c":2}`, ""}, {`5`, obj}, {`[]`, obj}, {`"x"`, obj}},
		"equal_to":       {{`null`, ""}, {`"x"`, "must equal equal_other"}},
		"greater_than":   {{`null`, ""}},
		"forbidden_with": {{`"x"`, ""}},
		"required_if":    {{`null`, ""}},
		"required_with":  {{`null`, ""}},
	} {
		for _, c := range cases {
			want := `{"valid":true}`
			if c[1] != "" {
				want = faults(t, map[string]string{field: c[1]})
			}
			t.Run(field+" "+clip(c[0]), func(t *testing.T) {
				checkRules(t, s, fmt.Sprintf(`{"required":1,"one_other":1,%q:%s}`, field, c[0]), want)
			})
		}
	}
	const both = "exactly one of only_one_of or one_other must be present"
	for name, c := range map[string]struct {
		params string
		faults map[string]string
	}{
		"nothing":         {`{}`, map[string]string{"required": "is required", "only_one_of": both}},
		"required null":   {`{"required":null,"one_other":1}`, map[string]string{"required": "is required"}},
		"required empty":  {`{"required":"","one_other":1}`, nil},
		"required 0":      {`{"required":0,"one_other":1}`, nil},
		"required false":  {`{"required":false,"one_other":1}`, nil},
		"one of two":      {`{"required":1,"only_one_of":1}`, nil},
		"both of two":     {`{"required":1,"only_one_of":1,"one_other":1}`, map[string]string{"only_one_of": both}},
		"one of two null": {`{"required":1,"only_one_of":null,"one_other":0}`, nil},
		"equal":           {`{"required":1,"one_other":1,"equal_to":"x","equal_other":"x"}`, nil},
		"equal numbers":   {`{"required":1,"one_other":1,"equal_to":1.0,"equal_other":1}`, nil},
		"not equal": {`{"required":1,"one_other":1,"equal_to":"x","equal_other":"y"}`,
			map[string]string{"equal_to": "must equal equal_other"}},
		"not equal in type": {`{"required":1,"one_other":1,"equal_to":"1","equal_other":1}`,
			map[string]string{"equal_to": "must equal equal_other"}},
		"greater": {`{"required":1,"one_other":1,"greater_than":2,"gt_other":1}`, nil},
		"not greater": {`{"required":1,"one_other":1,"greater_than":1,"gt_other":1}`,
			map[string]string{"greater_than": "must be greater than gt_other"}},
		"forbidden together": {`{"required":1,"one_other":1,"forbidden_with":1,"forb_other":1}`,
			map[string]string{"forbidden_with": "cannot be present together with forb_other"}},
		"forbidden, other null": {`{"required":1,"one_other":1,"forbidden_with":1,"forb_other":null}`, nil},
		"required if": {`{"required":1,"one_other":1,"rif_other":"yes"}`,
			map[string]string{"required_if": "is required when rif_other is yes"}},
		"required if, present":  {`{"required":1,"one_other":1,"rif_other":"yes","required_if":0}`, nil},
		"required if, other no": {`{"required":1,"one_other":1,"rif_other":"no"}`, nil},
		"required with": {`{"required":1,"one_other":1,"rw_other":0}`,
			map[string]string{"required_with": "is required when rw_other is present"}},
		"required with, null": {`{"required":1,"one_other":1,"rw_other":null}`, nil},
		"nested missing":      {`{"required":1,"one_other":1,"nested":{}}`, map[string]string{"nested.a": "is required"}},
		"nested two": {`{"required":1,"one_other":1,"nested":{"a":"x","b":5}}`,
			map[string]string{"nested.a": integer, "nested.b": str}},
		"several fields, in each": {`{"required":1,"one_other":1,"min":1,"email":"x","max_items":"x"}`,
			map[string]string{"min": "must be at least 3", "email": email, "max_items": lst}},
	} {
		t.Run(name, func(t *testing.T) {
			want := `{"valid":true}`
			if c.faults != nil {
				want = faults(t, c.faults)
			}
			checkRules(t, s, c.params, want)
		})
	}
}

// TestFormTexts: each field reports its first failing rule.
func TestFormTexts(t *testing.T) {
	t.Parallel()
	s := recorded(t)
	good := map[string]any{"title": "abc", "email": "a@b.c", "age": 18}
	for _, tt := range []struct {
		name   string
		change map[string]any
		faults map[string]string
	}{
		{"good", nil, nil}, {"other fields pass", map[string]any{"x": 1}, nil},
		{"all absent", map[string]any{"title": nil, "email": nil, "age": nil},
			map[string]string{"title": "is required", "email": "is required", "age": "is required"}},
		{"title short", map[string]any{"title": "a"}, map[string]string{"title": "must be at least 2 characters"}},
		{"title long", map[string]any{"title": "abcdef"}, map[string]string{"title": "must be at most 5 characters"}},
		{"title empty", map[string]any{"title": ""}, map[string]string{"title": "must be at least 2 characters"}},
		{"title a number", map[string]any{"title": 5}, map[string]string{"title": "must be a string"}},
		{"priority", map[string]any{"priority": 3}, nil}, {"priority null", map[string]any{"priority": nil}, nil},
		{"priority 4", map[string]any{"priority": 4}, map[string]string{"priority": "must be one of: 1, 2, 3"}},
		{"priority 0", map[string]any{"priority": 0}, map[string]string{"priority": "must be one of: 1, 2, 3"}},
		{"priority a string", map[string]any{"priority": "1"}, map[string]string{"priority": "must be an integer"}},
		{"age 17", map[string]any{"age": 17}, map[string]string{"age": "must be between 18 and 120"}},
		{"age 0", map[string]any{"age": 0}, map[string]string{"age": "must be positive"}},
		{"age 120", map[string]any{"age": 120}, nil},
		{"age 121", map[string]any{"age": 121}, map[string]string{"age": "must be between 18 and 120"}},
		{"age 18.5", map[string]any{"age": 18.5}, map[string]string{"age": "must be an integer"}},
		{"age past int64", map[string]any{"age": json.Number("123456789012345678901234567890")},
			map[string]string{"age": "must be between 18 and 120"}},
		{"tags", map[string]any{"tags": []string{"a", "b", "c"}}, nil},
		{"four tags", map[string]any{"tags": []string{"a", "b", "c", "d"}},
			map[string]string{"tags": "must have at most 3 items"}},
		{"tags a string", map[string]any{"tags": "a"}, map[string]string{"tags": "must be a list"}},
		{"email", map[string]any{"email": "x"}, map[string]string{"email": "must be a valid email address"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			params := map[string]any{}
			for _, m := range []map[string]any{good, tt.change} {
				maps.Copy(params, m)
			}
			body, err := json.Marshal(params)
			if err != nil {
				t.Fatal(err)
			}
			status, want := 200, `{"valid":true}`
			if tt.faults != nil {
				status, want = 422, faults(t, tt.faults)
			}
			if got := s.do(t, "POST /run/form.submit", string(body)); got.status != status || !sameJSON(got.body, want) {
				t.Errorf("%s: got %d %s, want %s", body, got.status, got.body, want)
			}
		})
	}
}

func faults(t *testing.T, texts map[string]string) string {
	t.Helper()
	lists := map[string][]string{}
	for field, text := range texts {
		lists[field] = []string{text}
	}
	b, err := json.Marshal(map[string]any{"error": "validation_failed", "code": "validation_failed", "errors": lists})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func checkRules(t *testing.T, s *server, params, want string) {
	t.Helper()
	status := 200
	if want != `{"valid":true}` {
		status = 422
	}
	if got := s.do(t, "POST /run/rules", params); got.status != status || !sameJSON(got.body, want) {
		t.Errorf("%s:\ngot %d %s\nwant %s", params, got.status, got.body, want)
	}
}
