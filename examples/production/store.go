package main

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// sqliteFile is the database where no DATABASE_URL is given, in the working directory.
const sqliteFile = "tasks.db"

//go:embed migrations
var migrations embed.FS

// A store keeps the tasks of all tenants. Each method names the tenant that it is about, so that no query can forget it.
// Its methods may be called concurrently.
type store struct {
	db      *sql.DB
	dialect goose.Dialect
}

// openStore opens the PostgreSQL database at url, or without one the SQLite database in a file. It does not connect yet.
func openStore(url, file string, maxConns int) (*store, error) {
	s := &store{}
	if url != "" {
		config, err := pgx.ParseConfig(url)
		if err != nil {
			return nil, errors.New("DATABASE_URL: it is no PostgreSQL URL") // err may quote the password
		}
		s.db, s.dialect = stdlib.OpenDB(*config), goose.DialectPostgres
	} else {
		// WAL lets readers go on while one writes; a second writer waits for up to 5 s.
		db, err := sql.Open("sqlite", "file:"+file+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)&_txlock=immediate")
		if err != nil {
			return nil, err
		}
		s.db, s.dialect = db, goose.DialectSQLite3
	}
	// A pool with a bound waits; without one, a rush of calls takes all connections that the database has.
	s.db.SetMaxOpenConns(maxConns)
	s.db.SetMaxIdleConns(maxConns)
	s.db.SetConnMaxIdleTime(5 * time.Minute)
	s.db.SetConnMaxLifetime(30 * time.Minute) // so that connections move after a failover
	return s, nil
}

func (s *store) Close() error { return s.db.Close() }

// migrate brings the schema up to date. Of several servers that start at the same time on PostgreSQL, one does it and the
// others wait: an advisory lock.
func (s *store) migrate(ctx context.Context, log *slog.Logger) error {
	files, err := fs.Sub(migrations, "migrations/"+map[goose.Dialect]string{
		goose.DialectPostgres: "postgres", goose.DialectSQLite3: "sqlite",
	}[s.dialect])
	if err != nil {
		return err
	}
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}
	if s.dialect == goose.DialectPostgres {
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300)) // looks every second, for at most 5 minutes
		if err != nil {
			return err
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	provider, err := goose.NewProvider(s.dialect, s.db, files, options...)
	if err != nil {
		return err
	}
	applied, err := provider.Up(ctx)
	for _, m := range applied {
		log.Info("migrated", "file", m.Source.Path, "duration", m.Duration)
	}
	if err != nil {
		return fmt.Errorf("the database could not be migrated: %w", err)
	}
	return nil
}

// check reports whether the database answers, lets us in and has our tables. It is asked at most once a second.
func (s *store) check(ctx context.Context) error {
	var some bool
	return s.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM tasks)`).Scan(&some)
}

var (
	errNoTask  = errors.New("no such task")
	errChanged = errors.New("the task has another version")
)

// A row is what QueryRow and Query give.
type row interface{ Scan(dest ...any) error }

const columns = `id, title, done, version, created_by, updated_at`

func scanTask(r row) (Task, error) {
	var t Task
	err := r.Scan(&t.ID, &t.Title, &t.Done, &t.Version, &t.CreatedBy, &t.UpdatedAt)
	t.UpdatedAt = t.UpdatedAt.UTC()
	return t, err
}

// list returns up to limit tasks with an id below before, the newest first.
func (s *store) list(ctx context.Context, tenant string, before int64, limit int) ([]Task, error) {
	rows, err := s.db.QueryContext(ctx,
		`SELECT `+columns+` FROM tasks WHERE tenant = $1 AND id < $2 ORDER BY id DESC LIMIT $3`, tenant, before, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	tasks := make([]Task, 0, limit)
	for rows.Next() {
		t, err := scanTask(rows)
		if err != nil {
			return nil, err
		}
		tasks = append(tasks, t)
	}
	return tasks, rows.Err()
}

func (s *store) create(ctx context.Context, tenant, user, title string) (Task, error) {
	return scanTask(s.db.QueryRowContext(ctx,
		`INSERT INTO tasks (tenant, title, created_by) VALUES ($1, $2, $3) RETURNING `+columns, tenant, title, user))
}

// update changes what is not nil, if the task still has that version. It returns errNoTask or errChanged if it can't.
func (s *store) update(ctx context.Context, tenant string, in UpdateTask) (Task, error) {
	t, err := scanTask(s.db.QueryRowContext(ctx,
		`UPDATE tasks SET title = COALESCE($4, title), done = COALESCE($5, done), version = version + 1, updated_at = CURRENT_TIMESTAMP
		WHERE tenant = $1 AND id = $2 AND version = $3 RETURNING `+columns, tenant, in.ID, in.Version, in.Title, in.Done))
	if !errors.Is(err, sql.ErrNoRows) {
		return t, err
	}
	var there bool
	err = s.db.QueryRowContext(ctx,
		`SELECT EXISTS (SELECT 1 FROM tasks WHERE tenant = $1 AND id = $2)`, tenant, in.ID).Scan(&there)
	switch {
	case err != nil:
		return Task{}, err
	case there:
		return Task{}, errChanged
	}
	return Task{}, errNoTask
}

// remove returns errNoTask if there is none.
func (s *store) remove(ctx context.Context, tenant string, id int64) error {
	result, err := s.db.ExecContext(ctx, `DELETE FROM tasks WHERE tenant = $1 AND id = $2`, tenant, id)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n > 0 {
		return err
	}
	return errNoTask
}
