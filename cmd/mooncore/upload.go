package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// An upload is a file that goes with a call.
type upload struct {
	field, name string
	file        *os.File
	size        int64
}

func openFiles(args list) (files []upload, err error) {
	for _, arg := range args {
		field, path, ok := strings.Cut(arg, "=")
		if !ok || field == "" || path == "" {
			closeFiles(files)
			return nil, usagef("--file: %q is not FIELD=PATH", plain(arg))
		}
		f, size, err := openFile(path)
		if err != nil {
			closeFiles(files)
			return nil, err
		}
		files = append(files, upload{field, filepath.Base(path), f, size})
	}
	return files, nil
}

func closeFiles(files []upload) {
	for _, f := range files {
		f.file.Close()
	}
}

// formOf returns the body of a form with the params and the files, which are read as the body is.
func formOf(r *call) (body io.Reader, contentType string, size int64, err error) {
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	var parts []io.Reader
	// flush ends the part of the body that is in memory.
	flush := func() {
		text := slices.Clone(buf.Bytes())
		buf.Reset()
		parts, size = append(parts, bytes.NewReader(text)), size+int64(len(text))
	}
	fields, err := formFields(nil, "", r.params)
	if err != nil {
		return nil, "", 0, err
	}
	for _, f := range fields {
		err = errors.Join(err, w.WriteField(f[0], f[1]))
	}
	for _, f := range r.files {
		h := textproto.MIMEHeader{}
		h.Set("Content-Disposition", multipart.FileContentDisposition(f.field, f.name))
		mediaType := mime.TypeByExtension(filepath.Ext(f.name))
		if mediaType == "" {
			mediaType = "application/octet-stream"
		}
		h.Set("Content-Type", mediaType)
		_, partErr := w.CreatePart(h)
		err = errors.Join(err, partErr)
		flush()
		parts, size = append(parts, io.LimitReader(f.file, f.size)), size+f.size
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, "", 0, err
	}
	flush()
	return io.MultiReader(parts...), w.FormDataContentType(), size, nil
}

// formFields spells params as fields of a form, as a server reads them: user[name], tags[].
func formFields(fields [][2]string, name string, raw json.RawMessage) ([][2]string, error) {
	var value any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&value); err != nil {
		return nil, usagef("params: %v", err)
	}
	return appendFields(fields, name, value)
}

func appendFields(fields [][2]string, name string, value any) ([][2]string, error) {
	var err error
	switch v := value.(type) {
	case map[string]any:
		keys := make([]string, 0, len(v))
		for key := range v {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		for _, key := range keys {
			inner := key
			if name != "" {
				inner = name + "[" + key + "]"
			}
			if fields, err = appendFields(fields, inner, v[key]); err != nil {
				return nil, err
			}
		}
	case []any:
		for _, element := range v {
			if _, nested := element.([]any); nested {
				return nil, usagef("%s: a form holds no list of lists", plain(name))
			}
			if fields, err = appendFields(fields, name+"[]", element); err != nil {
				return nil, err
			}
		}
	case string:
		fields = append(fields, [2]string{name, v})
	case json.Number:
		fields = append(fields, [2]string{name, v.String()})
	case bool:
		fields = append(fields, [2]string{name, strconv.FormatBool(v)})
	default:
		return nil, usagef("%s: a form holds no null", plain(name))
	}
	return fields, nil
}

// A progress shows on a terminal how much of a body has been read.
type progress struct {
	io.Reader
	out   *output
	moved func()
	total int64
	start time.Time

	mu     sync.Mutex // the transport reads on while an early answer is printed
	done   int64
	drawn  time.Time
	active bool
	ended  bool
}

func newProgress(out *output, body io.Reader, total int64, moved func()) *progress {
	return &progress{Reader: body, out: out, moved: moved, total: total, start: time.Now()}
}

// Read implements io.Reader.
func (p *progress) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	p.moved()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += int64(n)
	if !p.ended && p.out.terminal && (time.Since(p.drawn) > 100*time.Millisecond || p.done == p.total) {
		p.draw()
	}
	return n, err
}

func (p *progress) draw() {
	const width = 30
	p.drawn, p.active = time.Now(), true
	share := 1.0
	if p.total > 0 {
		share = float64(p.done) / float64(p.total)
	}
	filled := int(share * width)
	rate := float64(p.done) / max(time.Since(p.start).Seconds(), 0.001)
	p.out.say("\r%s%s %3.0f %%  %s of %s  %s/s \x1b[K", strings.Repeat("█", filled), strings.Repeat("░", width-filled), share*100,
		sizeText(float64(p.done)), sizeText(float64(p.total)), sizeText(rate))
}

// end leaves the line.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.active && !p.ended {
		p.out.say("\n")
	}
	p.ended = true
}

func sizeText(n float64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for n >= 1024 && i < len(units)-1 {
		n /= 1024
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%.0f B", n)
	}
	return fmt.Sprintf("%.1f %s", n, units[i])
}
