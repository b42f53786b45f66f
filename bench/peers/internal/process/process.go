// Package process is what the servers have in common beside the wire: a key, and how to end.
package process

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"

	"github.com/mooncore/mooncore"
)

// SigningKey makes an RSA key, so that tokens are signed with RS256.
func SigningKey() (mooncore.Secret, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return mooncore.Secret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), err
}

// ServeUntilExit runs serve in the background, and ends the process if it fails.
func ServeUntilExit(serve func() error) {
	go func() {
		if err := serve(); err != nil {
			Fail(err)
		}
	}()
}

// Fail ends the process.
func Fail(err error) {
	os.Stderr.WriteString(err.Error() + "\n")
	os.Exit(1)
}
