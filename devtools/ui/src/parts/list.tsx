// A table of many rows, of which only those that can be seen are in the page. All rows are of one height.
import type { ComponentChildren } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { useRem } from './ui.tsx';

const beyond = 8; // rows that are kept above and below what is seen

interface Props<T> {
  label: string;
  rows: T[];
  /** In rem. */
  rowHeight: number;
  id: (row: T) => string;
  /** Names of the columns, for a header that scrolls with nothing. */
  columns: { name: string; class?: string }[];
  /** One cell for each column. */
  cells: (row: T) => ComponentChildren[];
  selected?: string;
  onOpen: (row: T) => void;
  /** Rows are added at the top while it is read: keeps what is seen in its place, unless the top is seen. */
  growsAtTop?: boolean;
  onEnd?: () => void;
  empty: ComponentChildren;
  class?: string;
}

export function List<T>({ label, rows, rowHeight: rowRem, id, columns, cells, selected, onOpen, growsAtTop, onEnd, empty, class: more }: Props<T>) {
  const rowHeight = Math.round(rowRem * useRem());
  const body = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ top: 0, height: 600 });
  const firstID = useRef<string | undefined>(undefined);

  useEffect(() => {
    const element = body.current!;
    const measure = () => setView({ top: element.scrollTop, height: element.clientHeight });
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  // What was first is now further down: go down with it.
  useLayoutEffect(() => {
    const element = body.current!;
    const before = firstID.current;
    firstID.current = rows[0] && id(rows[0]);
    if (!growsAtTop || before === undefined || before === firstID.current || element.scrollTop < rowHeight / 2) return;
    const moved = rows.findIndex((row) => id(row) === before);
    if (moved > 0) {
      element.scrollTop += moved * rowHeight;
      setView({ top: element.scrollTop, height: element.clientHeight });
    }
  }, [rows]);

  const first = Math.max(0, Math.floor(view.top / rowHeight) - beyond);
  const last = Math.min(rows.length, Math.ceil((view.top + view.height) / rowHeight) + beyond);
  useEffect(() => {
    if (last >= rows.length && rows.length > 0) onEnd?.();
  }, [last, rows.length]);

  const at = selected === undefined ? -1 : rows.findIndex((row) => id(row) === selected);
  const move = (to: number) => {
    const row = rows[Math.max(0, Math.min(rows.length - 1, to))];
    if (!row) return;
    onOpen(row);
    const element = body.current!;
    const top = rows.indexOf(row) * rowHeight;
    if (top < element.scrollTop) element.scrollTop = top;
    else if (top + rowHeight > element.scrollTop + element.clientHeight) element.scrollTop = top + rowHeight - element.clientHeight;
  };
  const key = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const page = Math.max(1, Math.floor(view.height / rowHeight) - 1);
    const from = at < 0 ? Math.ceil(view.top / rowHeight) - 1 : at;
    const steps: Record<string, number> = { ArrowDown: from + 1, j: from + 1, ArrowUp: from - 1, k: from - 1, Home: 0, End: rows.length - 1, PageDown: from + page, PageUp: from - page };
    const to = steps[event.key];
    if (to === undefined) return;
    event.preventDefault();
    move(to);
  };

  return (
    <div class={`list ${more ?? ''}`} role="table" aria-label={label} aria-rowcount={rows.length + 1}>
      <div role="rowgroup" class="list-head">
        <div role="row" aria-rowindex={1}>
          {columns.map((column) => (
            <div key={column.name} role="columnheader" class={column.class}>
              {column.name}
            </div>
          ))}
        </div>
      </div>
      {/* A scrolling area takes the focus, so that keys scroll it. */}
      <div
        role="rowgroup"
        class="list-body"
        data-keys="list"
        ref={body}
        tabIndex={0}
        aria-label={`${label}, rows`}
        onKeyDown={key}
        onScroll={(event) => setView({ top: event.currentTarget.scrollTop, height: event.currentTarget.clientHeight })}
      >
        {rows.length === 0 ? (
          <div role="row">
            <div role="cell">{empty}</div>
          </div>
        ) : (
          <div role="presentation" class="list-space" style={{ height: `${rows.length * rowHeight}px` }}>
            {rows.slice(first, last).map((row, i) => {
              const rowID = id(row);
              return (
                <div
                  key={rowID}
                  role="row"
                  class={`list-row ${rowID === selected ? 'selected' : ''}`}
                  aria-rowindex={first + i + 2}
                  aria-current={rowID === selected ? 'true' : undefined}
                  style={{ top: `${(first + i) * rowHeight}px`, height: `${rowHeight}px` }}
                  onClick={(event) => {
                    if (!(event.target as Element).closest('a')) onOpen(row);
                  }}
                >
                  {cells(row).map((cell, c) => (
                    <div key={columns[c]!.name} role="cell" class={columns[c]!.class}>
                      {cell}
                    </div>
                  ))}
                </div>
              );
            })}
          </div>
        )}
      </div>
    </div>
  );
}
