-- +goose Up
CREATE TABLE tasks (
	id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	tenant     TEXT        NOT NULL,
	title      TEXT        NOT NULL,
	done       BOOLEAN     NOT NULL DEFAULT FALSE,
	version    INTEGER     NOT NULL DEFAULT 1,
	created_by TEXT        NOT NULL,
	updated_at TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX tasks_of_tenant ON tasks (tenant, id);

-- +goose Down
DROP TABLE tasks;
