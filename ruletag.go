package mooncore

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A tagRule is one rule of a validate tag: a name, and the values after "=".
type tagRule struct {
	name   string
	values []tagValue
}

type tagValue struct {
	text   string
	quoted bool
}

// parseTag reads a validate tag: rules by commas, values by spaces, single quotes around values that hold either.
func parseTag(tag string) ([]tagRule, error) {
	var rules []tagRule
	rest := strings.TrimSpace(tag)
	if rest == "" {
		return nil, nil
	}
	for {
		end := strings.IndexAny(rest, ",=")
		if end < 0 {
			end = len(rest)
		}
		rule := tagRule{name: strings.TrimSpace(rest[:end])}
		if rule.name == "" {
			return nil, errors.New("a rule without a name")
		}
		rest = rest[end:]
		if strings.HasPrefix(rest, "=") {
			var err error
			if rule.values, rest, err = parseTagValues(rest[1:]); err != nil {
				return nil, fmt.Errorf("rule %s: %w", rule.name, err)
			}
			if len(rule.values) == 0 {
				return nil, fmt.Errorf("rule %s: no value after =", rule.name)
			}
		}
		rules = append(rules, rule)
		if rest == "" {
			return rules, nil
		}
		rest = rest[1:] // the comma
	}
}

// parseTagValues reads values up to a comma or the end. It returns what is left, the comma first.
func parseTagValues(rest string) (values []tagValue, left string, err error) {
	for {
		rest = strings.TrimLeft(rest, " ")
		if rest == "" || rest[0] == ',' {
			return values, rest, nil
		}
		if rest[0] != '\'' {
			end := strings.IndexAny(rest, " ,")
			if end < 0 {
				end = len(rest)
			}
			if strings.Contains(rest[:end], "'") {
				return nil, "", fmt.Errorf("a quote in %s: put the value in single quotes, and double the quote", rest[:end])
			}
			values = append(values, tagValue{text: rest[:end]})
			rest = rest[end:]
			continue
		}
		var text strings.Builder
		for rest = rest[1:]; ; {
			end := strings.IndexByte(rest, '\'')
			if end < 0 {
				return nil, "", errors.New("a single quote has no partner")
			}
			text.WriteString(rest[:end])
			if rest = rest[end+1:]; !strings.HasPrefix(rest, "'") {
				break
			}
			text.WriteByte('\'')
			rest = rest[1:]
		}
		if rest != "" && rest[0] != ' ' && rest[0] != ',' {
			return nil, "", fmt.Errorf("%s after a closing quote", strconv.Quote(rest[:1]))
		}
		values = append(values, tagValue{text: text.String(), quoted: true})
	}
}

// wellFormedTag reports whether a struct tag has the conventional form, key:"value" pairs. Of any other, package reflect finds
// only a part.
func wellFormedTag(tag string) bool {
	for {
		tag = strings.TrimLeft(tag, " ")
		if tag == "" {
			return true
		}
		key, rest, ok := strings.Cut(tag, ":")
		if !ok || key == "" || strings.ContainsAny(key, " \"") {
			return false
		}
		value, err := strconv.QuotedPrefix(rest)
		if err != nil || value[0] != '"' {
			return false
		}
		tag = rest[len(value):]
	}
}
