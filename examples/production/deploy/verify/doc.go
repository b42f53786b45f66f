// Package verify holds the tests of the files in deploy. It is a module of its own, so that the linter of Docker, the loader of
// Compose and the types of Kubernetes are no dependencies of the service.
package verify
