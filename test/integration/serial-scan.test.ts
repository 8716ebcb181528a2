import { describe, expect, it } from 'vitest';
import { scanSerial } from '../../modules/serial/scan.ts';
import { scanOptions } from '../../modules/serial/scan-options.ts';
import { isBetter, isText, scoreOf } from '../../modules/serial/scan-score.ts';
import type { ScanEvent } from '../../src/core/scan.ts';
import { closeEnd, openEnd, serialLine } from '../support/serial-line.ts';
import { SerialInstrument } from '../sim/serial-instrument.ts';
import { record } from '../unit/modules/modbus/harness.ts';

async function scan(options: object): Promise<ScanEvent[]> {
  const { clock, log } = record().context;
  const events: ScanEvent[] = [];
  await scanSerial(scanOptions.parse(options), {
    clock,
    log,
    signal: new AbortController().signal,
    report: (event) => events.push(event),
    running: [],
    profiles: () => [],
  });
  return events;
}

describe('a scan of a serial port', () => {
  it('hears who speaks, and suggests how to read it', async () => {
    await using line = await serialLine();
    await using instrument = await SerialInstrument.open({ path: line.far, answer: () => undefined });
    let isOver = false;
    const speaking = (async () => {
      while (!isOver) await instrument.say('T 21.5 C\r\n');
    })();
    const events = await scan({ path: line.near, baud_rates: '9600', listen_ms: '300' });
    isOver = true;
    await speaking;
    expect(events[0]).toMatchObject({ kind: 'estimate', longestMs: 300 });
    const found = events.find((event) => event.kind === 'found')?.finding;
    expect(found).toMatchObject({ place: line.near, facts: { 'baud rate': '9600', sample: 'T 21.5 C' } });
    expect(found?.suggestion).toContain('baud_rate: 9600');
  });

  it('sends nothing unless told to', async () => {
    await using line = await serialLine();
    await using instrument = await SerialInstrument.open({ path: line.far, answer: () => 'W 12.5 kg\r\n' });
    const silent = await scan({ path: line.near, baud_rates: [9600], listen_ms: 100 });
    expect(silent.find((event) => event.kind === 'found')?.finding.facts).toMatchObject({ heard: 'nothing' });
    expect(instrument.requests).toEqual([]);
    const asked = await scan({ path: line.near, baud_rates: [9600], listen_ms: 200, send: 'W\\r\\n' });
    expect(asked.find((event) => event.kind === 'found')?.finding.facts).toMatchObject({ sample: 'W 12.5 kg' });
  });

  it('tells of a port in use, and disturbs nobody', async () => {
    await using line = await serialLine();
    const holder = await openEnd(line.near);
    const events = await scan({ path: line.near, baud_rates: '9600,19200', listen_ms: 100 });
    expect(events).toContainEqual({ kind: 'note', text: expect.stringContaining('is held by') as string });
    await closeEnd(holder);
  });
});

it('text at the right rate is better than noise at a wrong one', () => {
  const text = scoreOf(Buffer.from('W 12.5 kg\r\nW 12.6 kg\r\n'));
  const noise = scoreOf(Buffer.from([0xfe, 0x80, 0x78, 0x00, 0xf8, 0x66, 0x80, 0xfe, 0x00, 0x78, 0x80, 0xf8]));
  expect(isText(text)).toBe(true);
  expect(isText(noise)).toBe(false);
  expect(isBetter(text, noise)).toBe(true);
  expect(isBetter(noise, text)).toBe(false);
});
