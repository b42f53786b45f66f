// Icons: 16 by 16, drawn with one stroke, in the colour of the text beside them. They say nothing that a label does not say.

const paths = {
  overview: 'M2 13.5h12M3.5 11V7.5M8 11V3.5M12.5 11V6',
  actions: 'M3 4h10M3 8h6M3 12h4M11 9.5l3 2-3 2z',
  log: 'M5.5 4H14M5.5 8H14M5.5 12H14M2 4h.5M2 8h.5M2 12h.5',
  connections: 'M8 8h0M3.5 3.5a6.4 6.4 0 0 0 0 9M12.5 3.5a6.4 6.4 0 0 1 0 9M5.6 5.6a3.4 3.4 0 0 0 0 4.8M10.4 5.6a3.4 3.4 0 0 1 0 4.8',
  runtime: 'M5 2v2M8 2v2M11 2v2M5 12v2M8 12v2M11 12v2M4 4h8v8H4zM6.5 6.5h3v3h-3z',
  tools: 'M9.5 6.5 3 13M10 2.5a3.5 3.5 0 1 0 3.5 3.5l-2 .5-2-2z',
  console: 'M3 4.5 6.5 8 3 11.5M8.5 12H13',
  guides: 'M8 4C6.5 3 4.5 2.7 2.5 3v9.5C4.5 12.2 6.5 12.5 8 13.5c1.5-1 3.5-1.3 5.5-1V3C11.5 2.7 9.5 3 8 4zM8 4v9.5',
  pages: 'M2.5 3h11v10h-11zM2.5 6h11M6.5 6v7',
  doctor: 'M8 2.2 13 4v4c0 3-2.2 4.9-5 6-2.8-1.1-5-3-5-6V4zM5.8 8l1.6 1.6 3-3.2',
  copy: 'M5.5 5.5h8v8h-8zM3.5 10.5h-1v-8h8v1',
  check: 'M3 8.5 6.5 12 13 4.5',
  close: 'M4 4l8 8M12 4l-8 8',
  menu: 'M2 4h12M2 8h12M2 12h12',
  play: 'M4.5 3v10l8-5z',
  again: 'M13 8a5 5 0 1 1-1.5-3.6M13 2v3h-3',
  trash: 'M3 4.5h10M6.5 4.5V3h3v1.5M4.5 4.5l.5 8.5h6l.5-8.5',
  plus: 'M8 3v10M3 8h10',
  download: 'M8 2.5v8M4.5 7.5 8 11l3.5-3.5M3 13.5h10',
  sun: 'M8 5.5a2.5 2.5 0 1 0 0 5 2.5 2.5 0 0 0 0-5zM8 1.5V3M8 13v1.5M1.5 8H3M13 8h1.5M3.4 3.4l1 1M11.6 11.6l1 1M3.4 12.6l1-1M11.6 4.4l1-1',
  moon: 'M13 9.5A5.5 5.5 0 0 1 6.5 3a5.5 5.5 0 1 0 6.5 6.5z',
  auto: 'M8 2.5a5.5 5.5 0 1 0 0 11zM8 2.5a5.5 5.5 0 0 1 0 11',
  help: 'M6 6a2 2 0 1 1 2.8 1.8c-.6.3-.8.7-.8 1.4M8 11.5v.3M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8z',
  out: 'M9.5 3H3v10h6.5M6.5 8H14M11.5 5.5 14 8l-2.5 2.5',
  pause: 'M5.5 3.5v9M10.5 3.5v9',
  search: 'M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9zM10.3 10.3 14 14',
  link: 'M6.5 9.5l3-3M7 4.5l1.2-1.2a3 3 0 0 1 4.3 4.3L11.3 8.8M9 11.5l-1.2 1.2a3 3 0 0 1-4.3-4.3L4.7 7.2',
  key: 'M10.5 2.5a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM8.4 7.6 3 13h-.5M4.5 11.5l1.5 1.5',
} as const;

export type IconName = keyof typeof paths;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false">
      <path d={paths[name]} />
    </svg>
  );
}
