import { describe, expect, it } from 'vitest';
import { scanSerial } from '../../modules/serial/scan.ts';
import { scanOptions } from '../../modules/serial/scan-options.ts';
import type { Adapter } from '../../src/core/adapter.ts';
import type { ScanEvent } from '../../src/core/scan.ts';
import { closeEnd, openEnd, serialLine } from '../support/serial-line.ts';
import { SerialInstrument } from '../sim/serial-instrument.ts';
import { waitFor } from '../support/wait.ts';
import { NEVER, record } from '../unit/modules/modbus/harness.ts';
import { serialAdapter } from '../unit/modules/serial/harness.ts';

async function scan(options: object, running: readonly Adapter[] = [], events: ScanEvent[] = []): Promise<ScanEvent[]> {
  const { clock, log } = record().context;
  await scanSerial(scanOptions.parse(options), {
    clock,
    log,
    signal: new AbortController().signal,
    report: (event) => events.push(event),
    running,
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
    const found = asked.find((event) => event.kind === 'found')?.finding;
    expect(found?.facts).toMatchObject({ sample: 'W 12.5 kg' });
    expect(found?.suggestion).toContain('    request: "W\\r\\n"\n    decode:');
  });

  it('tells of a port in use, and disturbs nobody', async () => {
    await using line = await serialLine();
    const holder = await openEnd(line.near);
    const events: ScanEvent[] = [];
    const scanned = scan({ path: line.near, baud_rates: '9600,19200', listen_ms: 100 }, [], events);
    await expect(scanned).rejects.toMatchObject({ code: 'GW_SERIAL_BUSY' });
    expect(events).toContainEqual({ kind: 'note', text: expect.stringContaining('is held by') as string });
    await closeEnd(holder);
  });

  it('tells 7 bits of data with parity, and suggests them', async () => {
    await using line = await serialLine();
    await using instrument = await SerialInstrument.open({ path: line.far, answer: () => undefined });
    const withParity = Buffer.from('P 1013.2 hPa\r\n').map((byte) => {
      const ones = byte.toString(2).replaceAll('0', '').length;
      return ones % 2 === 0 ? byte : byte | 0x80;
    });
    let isOver = false;
    const speaking = (async () => {
      while (!isOver) await instrument.say(Buffer.from(withParity));
    })();
    const events = await scan({ path: line.near, baud_rates: '9600', formats: '8N1,8E1', listen_ms: '300' });
    isOver = true;
    await speaking;
    expect(events[0]).toMatchObject({ kind: 'estimate', longestMs: 600 });
    const tried = events.flatMap((event) => (event.kind === 'progress' ? [event.text] : []));
    expect(tried).toEqual([`${line.near} at 9600 baud, 8N1`, `${line.near} at 9600 baud, 8E1`]);
    const found = events.find((event) => event.kind === 'found')?.finding;
    expect(found?.facts).toMatchObject({ 'baud rate': '9600', format: '7E1', sample: 'P 1013.2 hPa' });
    expect(found?.suggestion).toContain('baud_rate: 9600\ndata_bits: 7\nparity: even\nframing:');
  });

  it('listens beside an adapter that polls there, and neither opens the port nor sends', async () => {
    await using line = await serialLine();
    await using instrument = await SerialInstrument.open({ path: line.far, answer: () => 'W 12.5 kg\r\n' });
    const recording = record({ adapterId: 'scale-1' });
    const decode = { kind: 'regex', pattern: '^W (?<weight>[-0-9.]+) kg$', types: { weight: 'number' } };
    const scale = { request: 'W\r\n', decode, poll_interval_ms: 50 };
    const adapter = serialAdapter({ path: line.near, baud_rate: 19_200, devices: { scale } }, recording);
    await adapter.start(NEVER);
    try {
      await waitFor(() => recording.state('scale') === 'good');
      const events = await scan({ path: line.near, baud_rates: '9600,1200', listen_ms: 400, send: 'X\\r\\n' }, [
        adapter,
      ]);
      const text = `${line.near} is in use by adapter "scale-1" of this gateway: heard beside it, at 19200 baud, 8N1. Nothing is sent there.`;
      expect(events).toContainEqual({ kind: 'note', text });
      const found = events.find((event) => event.kind === 'found')?.finding;
      expect(found?.suggestion).toBeUndefined();
      expect(found?.facts).toMatchObject({
        adapter: 'scale-1',
        'baud rate': '19200',
        sample: 'W 12.5 kg',
      });
      expect(new Set(instrument.requests)).toEqual(new Set(['W']));
      expect(recording.state('scale')).toBe('good');
      // A port that is only listed is not heard at all.
      const listed = await scan({ path: line.near, list_only: true }, [adapter]);
      expect(listed.find((event) => event.kind === 'found')?.finding.facts).toEqual({ adapter: 'scale-1' });
    } finally {
      await adapter.stop(NEVER);
    }
  });
});
