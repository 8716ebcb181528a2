import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';
import { formatLine } from '../../../../src/observe/log-line.ts';
import { createLogger, maskSecrets } from '../../../../src/observe/logger.ts';

function capture(format: 'json' | 'lines', level: 'debug' | 'info' = 'info') {
  const lines: string[] = [];
  const log = createLogger({ format, level, write: (line) => lines.push(line) });
  return { lines, log, entries: () => lines.map((line) => JSON.parse(line) as Record<string, unknown>) };
}

describe('logger', () => {
  it('writes one JSON object a line, with level, time, sentence and the fields of its parents', () => {
    const { log, lines, entries } = capture('json');
    log.child({ adapter: 'bus-1' }).warn({ attempts: 3 }, 'No answer.');
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/\n$/);
    expect(entries()[0]).toMatchObject({ level: 'warn', adapter: 'bus-1', attempts: 3, message: 'No answer.' });
    expect(entries()[0]?.['time']).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  });

  it('leaves out what is below its level', () => {
    const { log, lines } = capture('json');
    log.debug({}, 'Small.');
    expect(lines).toEqual([]);
    const { log: verbose, lines: all } = capture('json', 'debug');
    verbose.debug({}, 'Small.');
    expect(all).toHaveLength(1);
  });

  it('never writes a secret, whoever logs it and however deep it lies', () => {
    const { log, lines } = capture('json');
    const secret = 'hunter2-SECRET';
    const fields = {
      password: secret,
      Authorization: secret,
      nested: { sharedAccessKey: secret, deeper: { private_key: secret, host: 'a' } },
    };
    log.child({ api_token: secret }).error(fields, 'Refused.');
    expect(lines.join('')).not.toContain(secret);
    expect(lines.join('')).toContain('"host":"a"');
    expect(fields.nested.deeper.private_key).toBe(secret);
  });

  it('keeps fields without secrets as they are', () => {
    const fields = { a: 1, b: { c: 2 } };
    expect(maskSecrets(fields)).toBe(fields);
  });

  it('writes the text of an error, not its stack', () => {
    const { log, entries } = capture('json');
    log.error({ error: new Error('boom') }, 'It failed.');
    expect(entries()[0]?.['error']).toBe('boom');
  });
});

describe('log line', () => {
  it('reads as a person reads', () => {
    const { log, lines } = capture('lines');
    log.info({ url: 'http://127.0.0.1:8080/', reason: 'no answer' }, 'Ready.');
    const plain = stripVTControlCharacters(lines[0] ?? '');
    expect(plain).toMatch(
      /^\d\d:\d\d:\d\d\.\d{3} INFO {2}Ready\. url=http:\/\/127\.0\.0\.1:8080\/ reason="no answer"\n$/,
    );
  });

  it('takes the power from control characters of peers', () => {
    const line = formatLine(
      JSON.stringify({ level: 'info', time: '', message: 'A\u001b[2J', topic: 'x\u001b]0;t\u0007' }),
    );
    expect(line).not.toContain('\u001b[2J');
    expect(line).not.toContain('\u0007');
    expect(line.trimEnd()).not.toContain('\n');
  });

  it('passes on a line that is no JSON', () => {
    expect(formatLine('plain\n')).toBe('plain\n');
  });
});
