// The serial adapter on pseudo-terminals, with an instrument paced at its baud rate on the far end.

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Adapter } from '../../src/core/adapter.ts';
import type { DeviceId } from '../../src/core/device.ts';
import { SerialInstrument } from '../sim/serial-instrument.ts';
import { type Line, openEnd, closeEnd, serialLine } from '../support/serial-line.ts';
import { waitFor } from '../support/wait.ts';
import { NEVER, record, type Recording } from '../unit/modules/modbus/harness.ts';
import { serialAdapter } from '../unit/modules/serial/harness.ts';

const WEIGHT = { kind: 'regex', pattern: '^W (?<weight>[-0-9.]+) kg$', types: { weight: 'number' } };
const SCALE = {
  request: 'W\r\n',
  decode: WEIGHT,
  poll_interval_ms: 50,
  timeout_ms: 300,
  circuit_breaker: { failures: 2, probe_interval_min_ms: 100, probe_interval_max_ms: 200 },
};

let line: Line;
let recording: Recording;
let captures: string;
let running: Adapter[];

beforeEach(async () => {
  line = await serialLine();
  captures = await mkdtemp(join(tmpdir(), 'fieldpost-captures-'));
  recording = record({ captureDirectory: captures });
  running = [];
});

afterEach(async () => {
  await Promise.all(running.map((adapter) => adapter.stop(NEVER)));
  await line[Symbol.asyncDispose]();
  await rm(captures, { recursive: true, force: true });
});

async function start(config: object): Promise<Adapter> {
  const adapter = serialAdapter({ path: line.near, ...config }, recording);
  running.push(adapter);
  await adapter.start(NEVER);
  // What is said before is heard by nobody.
  await waitFor(
    () => recording.logs.some(({ sentence }) => /^The serial port is|capture/.test(sentence)) || 'replay' in config,
  );
  return adapter;
}

const write = (adapter: Adapter, point: string, value: number | boolean | string) =>
  adapter.write?.({ deviceId: 'scale' as DeviceId, point, value }, NEVER);

/** A scale that weighs, keeps a limit, and knows nothing else. */
function scale(): (request: string) => string {
  let limit = '000.00';
  return (request) => {
    if (request === 'W') return 'W 12.5 kg\r\n';
    if (request === 'L?') return `L ${limit}\r\n`;
    if (!/^L\d{3}\.\d\d$/.test(request)) return 'ERR 7\r\n';
    limit = request.slice(1);
    return 'OK\r\n';
  };
}

describe('a polled instrument', () => {
  it('is asked and its answer decoded', async () => {
    await using instrument = await SerialInstrument.open({ path: line.far, answer: scale() });
    await start({ devices: { scale: SCALE } });
    await waitFor(() => recording.value('scale', 'weight') === 12.5);
    expect(recording.state('scale')).toBe('good');
    expect(instrument.requests[0]).toBe('W');
    await waitFor(() => recording.polls.length > 2);
    expect(recording.exchanges[0]).toMatchObject({ deviceId: 'scale', operation: 'poll', outcome: 'ok' });
  });

  it('takes writes, confirms them by its answer and by reading back, and refuses what does not fit', async () => {
    await using instrument = await SerialInstrument.open({ path: line.far, answer: scale() });
    const limitDecode = { kind: 'regex', pattern: '^L (?<limit>[0-9.]+)$', types: { limit: 'number' } };
    const adapter = await start({
      devices: {
        scale: {
          ...SCALE,
          request: undefined,
          decode: undefined,
          requests: [
            { request: 'W\r\n', decode: WEIGHT },
            { request: 'L?\r\n', decode: limitDecode },
          ],
          points: {
            limit: { min: 0, max: 150, write: { template: 'L{value:06.2f}\r\n', response: '^OK' } },
            mode: { write: { template: 'M{value}\r\n', response: '^OK' } },
          },
        },
      },
    });
    await waitFor(() => recording.state('scale') === 'good');
    await expect(write(adapter, 'limit', 42.25)).resolves.toEqual({ readBack: 42.25, quality: { level: 'good' } });
    expect(instrument.requests).toContain('L042.25');
    const check = (point: string, value: number | string) =>
      adapter.checkWrite?.({ deviceId: 'scale' as DeviceId, point, value });
    expect(() => check('limit', 42.25)).not.toThrow();
    expect(() => check('limit', 1.125)).toThrow('does not take the value');
    expect(() => check('mode', '1\r\nL000.00')).toThrow('does not take the value');
    await expect(write(adapter, 'limit', 151)).rejects.toMatchObject({ code: 'GW_WRITE_REFUSED' });
    await expect(write(adapter, 'limit', 1.125)).rejects.toMatchObject({ code: 'GW_WRITE_REFUSED' });
    await expect(write(adapter, 'mode', '1\r\nL000.00')).rejects.toMatchObject({ code: 'GW_WRITE_REFUSED' });
    await expect(write(adapter, 'mode', '1')).rejects.toMatchObject({
      code: 'GW_SERIAL_ANSWER',
      details: { answer: 'ERR 7' },
    });
    await expect(write(adapter, 'weight', 1)).rejects.toMatchObject({ code: 'GW_WRITE_REFUSED' });
    await expect(write(adapter, 'nothing', 1)).rejects.toMatchObject({ code: 'GW_NOT_FOUND' });
    expect(instrument.requests.filter((request) => request === 'L000.00')).toEqual([]);
  });

  it('confirms a text by what is read back, with the blanks that filled its field or without them', async () => {
    let kept = '';
    const answer = (request: string): string => {
      if (request.startsWith('N=')) kept = request.slice('N='.length);
      return request === 'N?' ? `N ${kept}\r\n` : '';
    };
    await using instrument = await SerialInstrument.open({ path: line.far, answer });
    const adapter = await start({
      devices: {
        scale: {
          ...SCALE,
          request: 'N?\r\n',
          decode: { kind: 'regex', pattern: '^N (?<name>.*)$' },
          points: { name: { write: { template: 'N={value:8s}\r\n' } } },
        },
      },
    });
    await waitFor(() => recording.state('scale') === 'good');
    await expect(write(adapter, 'name', 'a')).resolves.toEqual({ readBack: 'a       ', quality: { level: 'good' } });
    expect(instrument.requests).toContain('N=a       ');
    await expect(write(adapter, 'name', 'a b c d e')).rejects.toMatchObject({ code: 'GW_WRITE_REFUSED' });
  });

  it('does not take what it says to a write without `response` for the answer to the next one', async () => {
    // It refuses the one, and takes the other.
    await using _instrument = await SerialInstrument.open({
      path: line.far,
      answer: (request) => (request.startsWith('M') ? 'ERR 1\r\n' : 'OK\r\n'),
    });
    const adapter = await start({
      devices: {
        scale: {
          ...SCALE,
          request: undefined,
          points: {
            weight: {},
            message: { write: { template: 'M{value}\r\n' } },
            limit: { write: { template: 'L{value:06.2f}\r\n', response: '^OK' } },
          },
        },
      },
    });
    const [, limited] = await Promise.all([write(adapter, 'message', 'x'), write(adapter, 'limit', 40)]);
    expect(limited).toMatchObject({ quality: { level: 'good' } });
  });

  describe('that answers a write late', () => {
    const limit = { write: { template: 'L{value:06.2f}\r\n', response: '^OK' } };
    const LATE = { ...SCALE, timeout_ms: 100, points: { weight: {}, limit } };
    /** Takes 1 and refuses 9, and answers the first of them when it is told to. */
    const open = (): Promise<SerialInstrument> => {
      let isFirst = true;
      return SerialInstrument.open({
        path: line.far,
        answer(request) {
          if (request === 'W') return 'W 12.5 kg\r\n';
          if (isFirst) return void (isFirst = false);
          return request === 'L009.00' ? 'ERR 9\r\n' : 'OK\r\n';
        },
      });
    };

    it('is sent the next one when the answer has come, whose own answer counts', async () => {
      await using instrument = await open();
      const adapter = await start({ devices: { scale: LATE } });
      await waitFor(() => recording.state('scale') === 'good');
      await expect(write(adapter, 'limit', 1)).rejects.toMatchObject({ code: 'GW_TIMEOUT' });
      const next = write(adapter, 'limit', 9);
      const polls = recording.polls.length;
      // Meanwhile it is polled as ever.
      await waitFor(() => recording.polls.length > polls + 2);
      expect(instrument.requests).not.toContain('L009.00');
      await instrument.say('OK\r\n');
      await expect(next).rejects.toMatchObject({ code: 'GW_SERIAL_ANSWER', details: { answer: 'ERR 9' } });
      expect(recording.quality('scale', 'weight')).toBe('good');
    });

    it('with a refusal has the next one wait until it is too old', async () => {
      await using instrument = await open();
      const adapter = await start({ devices: { scale: { ...LATE, poll_interval_ms: 60_000 } } });
      await waitFor(() => recording.state('scale') === 'good');
      await expect(write(adapter, 'limit', 9)).rejects.toMatchObject({ code: 'GW_TIMEOUT' });
      const sinceMs = performance.now();
      const next = write(adapter, 'limit', 1);
      await instrument.say('ERR 9\r\n');
      await expect(next).resolves.toEqual({ quality: { level: 'good' } });
      expect(performance.now() - sinceMs).toBeGreaterThan(9 * LATE.timeout_ms);
    });

    it('while it is asked for something else: that is answered all the same', async () => {
      let late = '';
      await using instrument = await SerialInstrument.open({
        path: line.far,
        answer(request) {
          if (request !== 'W') return late === '' ? void (late = 'OK\r\n') : 'OK\r\n';
          return `${late}W 12.5 kg\r\n`;
        },
      });
      const adapter = await start({ devices: { scale: { ...LATE, poll_interval_ms: 400 } } });
      await waitFor(() => recording.state('scale') === 'good');
      const bad = recording.exchanges.length;
      await expect(write(adapter, 'limit', 1)).rejects.toMatchObject({ code: 'GW_TIMEOUT' });
      const sinceMs = performance.now();
      await expect(write(adapter, 'limit', 2)).resolves.toEqual({ quality: { level: 'good' } });
      expect(performance.now() - sinceMs).toBeLessThan(9 * LATE.timeout_ms);
      expect(recording.exchanges.slice(bad).every(({ outcome }) => outcome === 'ok')).toBe(true);
      expect(instrument.requests).toContain('L002.00');
    });

    it('and a poll too: its value is no refusal, nor is the confirmation that comes then that of the next write', async () => {
      let isSlow = false;
      const held: string[] = [];
      await using instrument = await SerialInstrument.open({
        path: line.far,
        answer(request) {
          const answer = request === 'W' ? 'W 12.5 kg\r\n' : request === 'L009.00' ? 'ERR 9\r\n' : 'OK\r\n';
          return isSlow ? void held.push(answer) : answer;
        },
      });
      const adapter = await start({ devices: { scale: LATE } });
      await waitFor(() => recording.state('scale') === 'good');
      isSlow = true;
      await waitFor(() => held.length > 0);
      const first = expect(write(adapter, 'limit', 1)).rejects.toMatchObject({ code: 'GW_TIMEOUT' });
      await waitFor(() => instrument.requests.includes('L001.00'));
      await instrument.say('W 12.5 kg\r\n');
      await first;
      isSlow = false;
      const next = write(adapter, 'limit', 9);
      await instrument.say('OK\r\n');
      await expect(next).rejects.toMatchObject({ code: 'GW_SERIAL_ANSWER', details: { answer: 'ERR 9' } });
    });

    it('while the refusal of a poll was taken for its own', async () => {
      let isSilent = false;
      let owed = '';
      const taken = (): string => {
        const said = owed;
        owed = '';
        return said;
      };
      await using instrument = await SerialInstrument.open({
        path: line.far,
        answer: (request) => (isSilent ? undefined : `${taken()}${request === 'W' ? 'W 12.5 kg\r\n' : 'ERR 9\r\n'}`),
      });
      const adapter = await start({ devices: { scale: { ...LATE, poll_interval_ms: 400 } } });
      await waitFor(() => recording.state('scale') === 'good');
      isSilent = true;
      const polls = instrument.requests.length;
      await waitFor(() => instrument.requests.length > polls);
      const first = expect(write(adapter, 'limit', 1)).rejects.toMatchObject({ code: 'GW_SERIAL_ANSWER' });
      await waitFor(() => instrument.requests.includes('L001.00'));
      await instrument.say('ERR 1\r\n');
      await first;
      isSilent = false;
      // That of the first write comes with whatever is said next.
      owed = 'OK\r\n';
      const next = write(adapter, 'limit', 9);
      await expect(next).rejects.toMatchObject({ code: 'GW_SERIAL_ANSWER', details: { answer: 'ERR 9' } });
    });

    it.each([
      ['whose frames are told from its own', { match: '^A' }, { match: '^B' }, {}],
      ['while it refuses in words that are known', {}, {}, { refusal: '^A ERR' }],
    ])('waits for nothing after a refusal beside one that never answers, %s', async (_, own, dead, words) => {
      await using _instrument = await SerialInstrument.open({
        path: line.far,
        answer: (request) => ({ A: 'A 12.5\r\n', L9: 'A ERR\r\n', L1: 'A OK\r\n' })[request],
      });
      const decode = { kind: 'regex', pattern: '^A (?<weight>[0-9.]+)$' };
      const device = { ...LATE, decode, timeout_ms: 2000, poll_interval_ms: 60_000 };
      const points = { weight: {}, limit: { write: { template: 'L{value}\r\n', response: '^A OK', ...words } } };
      const breaker = { failures: 1, probe_interval_min_ms: 60_000, probe_interval_max_ms: 60_000 };
      const adapter = await start({
        devices: {
          scale: { ...device, ...own, request: 'A\r\n', points },
          dead: { ...device, ...dead, request: 'B\r\n', points: { weight: {} }, circuit_breaker: breaker },
        },
      });
      await waitFor(() => recording.state('dead') === 'offline');
      await expect(write(adapter, 'limit', 9)).rejects.toMatchObject({ code: 'GW_SERIAL_ANSWER' });
      const sinceMs = performance.now();
      await expect(write(adapter, 'limit', 1)).resolves.toMatchObject({ quality: { level: 'good' } });
      expect(performance.now() - sinceMs).toBeLessThan(2 * device.timeout_ms);
    });

    it('is not sent what nobody waits for any more, and that is told', async () => {
      await using instrument = await open();
      const adapter = await start({ devices: { scale: LATE } });
      await waitFor(() => recording.state('scale') === 'good');
      await expect(write(adapter, 'limit', 1)).rejects.toMatchObject({ code: 'GW_TIMEOUT' });
      const notSent = { code: 'GW_ABORTED', details: { reason: 'not_sent' } };
      const deviceId = 'scale' as DeviceId;
      const signal = AbortSignal.timeout(50);
      await expect(adapter.write?.({ deviceId, point: 'limit', value: 2 }, signal)).rejects.toMatchObject(notSent);
      const waiting = write(adapter, 'limit', 3);
      await Promise.all([adapter.stop(NEVER), expect(waiting).rejects.toMatchObject(notSent)]);
      expect(instrument.requests.filter((request) => request !== 'W')).toEqual(['L001.00']);
    });
  });

  it('whose answers to two requests look alike is not asked the second while that to the first may come', async () => {
    let held = 0;
    const decode = (point: string) => ({
      kind: 'regex',
      pattern: `^(?<${point}>[.0-9]+)$`,
      types: { [point]: 'number' },
    });
    await using instrument = await SerialInstrument.open({
      path: line.far,
      answer: (request) => {
        if (request === 'T1') return '20.5\r\n';
        held += 1;
        return held === 2 ? undefined : '99.9\r\n';
      },
    });
    const requests = [
      { request: 'T2\r\n', decode: decode('t2') },
      { request: 'T1\r\n', decode: decode('t1') },
    ];
    await start({
      devices: { scale: { ...SCALE, request: undefined, decode: undefined, requests, retries: 0, timeout_ms: 1000 } },
    });
    await waitFor(() => held === 2);
    await waitFor(() => recording.quality('scale', 't2') === 'bad:timeout');
    // More than half the time limit too late.
    await new Promise((resolve) => setTimeout(resolve, 600));
    await instrument.say('99.9\r\n');
    await waitFor(() => recording.value('scale', 't2') === 99.9);
    expect(
      recording.batches
        .flatMap(({ readings }) => readings)
        .filter(({ point, value }) => point === 't1' && value === 99.9),
    ).toEqual([]);
  });

  it('that falls silent is offline, and good again when it answers', async () => {
    await using instrument = await SerialInstrument.open({ path: line.far, answer: scale() });
    await start({ devices: { scale: SCALE } });
    await waitFor(() => recording.state('scale') === 'good');
    instrument.answer = () => undefined;
    await waitFor(() => recording.quality('scale', 'weight') === 'bad:timeout');
    expect(recording.state('scale')).toBe('offline');
    instrument.answer = () => 'W 3 kg\r\n';
    await waitFor(() => recording.value('scale', 'weight') === 3);
    expect(recording.state('scale')).toBe('good');
  });

  it('with wrong checksums is bad for that reason and harms no other on the line', async () => {
    const reply = (text: string, sum: number): Buffer =>
      Buffer.from(`${text}*${sum.toString(16).padStart(2, '0')}\r\n`);
    const xor = (text: string): number => Buffer.from(text).reduce((total, byte) => total ^ byte, 0);
    await using _instrument = await SerialInstrument.open({
      path: line.far,
      answer: (request) => (request === '1' ? reply('$A,1', 0) : reply('$A,2', xor('A,2'))),
    });
    const decode = { kind: 'delimited', fields: [null, 'level'], types: { level: 'integer' } };
    const device = { ...SCALE, request: '{address}\r\n', decode };
    await start({
      checksum: { kind: 'nmea' },
      devices: { broken: { ...device, address: '1' }, sound: { ...device, address: '2' } },
    });
    await waitFor(() => recording.quality('broken', 'level') === 'bad:checksum');
    await waitFor(() => recording.value('sound', 'level') === 2);
    const polls = recording.exchanges.filter(
      ({ deviceId, outcome }) => deviceId === 'sound' && outcome === 'ok',
    ).length;
    await waitFor(
      () =>
        recording.exchanges.filter(({ deviceId, outcome }) => deviceId === 'sound' && outcome === 'ok').length >
        polls + 5,
    );
    expect(recording.state('broken')).toBe('offline');
    expect(recording.exchanges.find(({ deviceId }) => deviceId === 'broken')?.outcome).toBe('checksum');
  });

  it('whose answer never ends is cut off at the bound', async () => {
    await using instrument = await SerialInstrument.open({
      path: line.far,
      baudRate: 115_200,
      answer: () => 'x'.repeat(200),
    });
    await start({ framing: { kind: 'readline', max_frame_bytes: 64 }, devices: { scale: SCALE } });
    await waitFor(() => recording.quality('scale', 'weight') === 'bad:oversized');
    instrument.answer = () => '\r\nW 1 kg\r\n';
    await waitFor(() => recording.value('scale', 'weight') === 1);
  });
});

describe('instruments that speak by themselves', () => {
  const device = (id: string) => ({
    match: `^${id}`,
    decode: { kind: 'delimited', fields: [null, 'level'], types: { level: 'number' } },
    silent_after_ms: 400,
    bad_after_frames: 2,
  });

  it('are told apart by their frames, and silence is told of the silent one only', async () => {
    await using instrument = await SerialInstrument.open({ path: line.far, answer: () => undefined });
    await start({ devices: { a: device('A'), b: device('B') } });
    await instrument.say('garb\xffge\r\nA,1\r\nB,2\r\n');
    await waitFor(() => recording.value('a', 'level') === 1 && recording.value('b', 'level') === 2);
    await waitFor(async () => {
      await instrument.say('A,3\r\n');
      return recording.quality('b', 'level') === 'bad:timeout';
    });
    expect(recording.quality('a', 'level')).toBe('good');
    expect(recording.state('b')).toBe('offline');
    await instrument.say('B,4\r\n');
    await waitFor(() => recording.state('b') === 'good');
  });

  it('count as bad after some faulty frames in a row', async () => {
    await using instrument = await SerialInstrument.open({ path: line.far, answer: () => undefined });
    await start({
      framing: { kind: 'start_stop', start: '<', stop: '>' },
      checksum: { kind: 'sum8', encoding: 'hex', from_byte: 1, after_bytes: 1 },
      devices: { a: { ...device('A'), match: undefined } },
    });
    await instrument.say('<A,191>'.replace('91', (0x41 + 0x2c + 0x31).toString(16).slice(-2)));
    await waitFor(() => recording.value('a', 'level') === 1);
    await instrument.say('<A,100><A,200>');
    await waitFor(() => recording.quality('a', 'level') === 'bad:checksum');
    expect(recording.state('a')).toBe('degraded');
  });
});

describe('the port', () => {
  it('may be pulled and put back', async () => {
    const first = await SerialInstrument.open({ path: line.far, answer: scale() });
    const adapter = await start({ devices: { scale: SCALE } });
    await waitFor(() => recording.state('scale') === 'good');
    await line.unplug();
    await first[Symbol.asyncDispose]();
    await waitFor(() => recording.quality('scale', 'weight') === 'bad:disconnected');
    expect(adapter.health()).toMatchObject({ status: 'degraded' });
    await expect(write(adapter, 'weight', 1)).rejects.toMatchObject({ code: 'GW_WRITE_REFUSED' });
    await line.plug();
    await using _second = await SerialInstrument.open({ path: line.far, answer: scale() });
    await waitFor(() => recording.state('scale') === 'good');
    expect(adapter.health()).toEqual({ status: 'running' });
  });

  it('that another program holds is told and opened when it is free', async () => {
    await using _instrument = await SerialInstrument.open({ path: line.far, answer: scale() });
    const holder = await openEnd(line.near);
    const adapter = await start({ devices: { scale: SCALE } });
    await waitFor(() => adapter.health().reason?.includes('is held by'));
    await closeEnd(holder);
    await waitFor(() => recording.state('scale') === 'good');
  });
});

describe('a capture', () => {
  it('is played through the same decoder, and gives the same values', async () => {
    let weight = 0;
    const instrument = await SerialInstrument.open({ path: line.far, answer: () => `W ${(weight += 1)} kg\r\n` });
    const adapter = await start({ capture: { file: 'scale.jsonl' }, devices: { scale: SCALE } });
    await waitFor(() => recording.batches.length >= 5);
    await adapter.stop(NEVER);
    await instrument[Symbol.asyncDispose]();
    const text = await readFile(join(captures, 'scale.jsonl'), 'utf8');
    expect(text).toContain('"dir":"tx","hex":"570d0a"');
    const values = (batches: Recording['batches']): unknown[] => batches.map(({ readings }) => readings[0]?.value);
    const recorded = values(recording.batches);
    recording = record({ captureDirectory: captures });
    const limit = { write: { template: 'L{value}\r\n', response: '^OK' } };
    const player = await start({
      path: undefined,
      replay: { file: 'scale.jsonl', pace: 'fast', repeat: false },
      devices: { scale: { ...SCALE, points: { limit } } },
    });
    await expect(write(player, 'limit', 1)).rejects.toMatchObject({ code: 'GW_WRITE_REFUSED' });
    await waitFor(() => recording.quality('scale', 'weight') === 'bad:disconnected');
    expect(values(recording.batches).slice(0, recorded.length)).toEqual(recorded);
  });
});
