// A JSON log line as a person reads it: `12:34:56.789 WARN  The sentence. adapter=bus-1 error="no answer"`.

import { inspect, styleText } from 'node:util';

const STYLES = { debug: 'gray', info: 'green', warn: 'yellow', error: 'red' } as const;
const BARE_VALUE = /^[^\s"=]+$/;
/** Control characters could move the cursor or colour a terminal; texts of peers stand in fields. */
const CONTROL = /\p{Cc}/gu;

function escapeControl(text: string): string {
  return text.replace(CONTROL, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

function fieldText(value: unknown): string {
  if (typeof value === 'string') return escapeControl(BARE_VALUE.test(value) ? value : JSON.stringify(value));
  return escapeControl(inspect(value, { breakLength: Number.POSITIVE_INFINITY, depth: 4 }));
}

/** Returns the line with its end; a line that is not JSON comes back as it is. */
export function formatLine(json: string): string {
  let entry: Record<string, unknown>;
  try {
    entry = JSON.parse(json) as Record<string, unknown>;
  } catch {
    return json;
  }
  const { level, time, message, ...fields } = entry;
  const clock = typeof time === 'string' ? time.slice(11, 23) : '';
  const name = typeof level === 'string' ? level : 'info';
  const sentence = typeof message === 'string' ? message : '';
  const style = STYLES[name as keyof typeof STYLES] ?? 'green';
  const rest = Object.entries(fields).map(([key, value]) => ` ${styleText('gray', `${key}=`)}${fieldText(value)}`);
  return `${styleText('gray', clock)} ${styleText(style, name.toUpperCase().padEnd(5))} ${escapeControl(sentence)}${rest.join('')}\n`;
}
