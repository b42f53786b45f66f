-- +goose Up
CREATE TABLE tasks (
	id         INTEGER   PRIMARY KEY AUTOINCREMENT,
	tenant     TEXT      NOT NULL,
	title      TEXT      NOT NULL,
	done       BOOLEAN   NOT NULL DEFAULT FALSE,
	version    INTEGER   NOT NULL DEFAULT 1,
	created_by TEXT      NOT NULL,
	updated_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX tasks_of_tenant ON tasks (tenant, id);

-- +goose Down
DROP TABLE tasks;
