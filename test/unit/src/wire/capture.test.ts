import { readdirSync, readFileSync, readlinkSync, symlinkSync, writeFileSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { SystemClock } from '../../../../src/platform/clock.ts';
import { captureLine, capturePath, CaptureWriter, parseCapture, readCapture } from '../../../../src/wire/capture.ts';
import { createTempDir } from '../../../support/temp-dir.ts';
import { waitFor } from '../../../support/wait.ts';

const dir = createTempDir('capture');
afterAll(() => dir.remove());

async function open(path: string, maxBytes?: number): Promise<{ writer: CaptureWriter; ends: string[] }> {
  const ends: string[] = [];
  const writer = await CaptureWriter.open({
    path,
    clock: new SystemClock(),
    onEnd: (reason) => void ends.push(reason),
    ...(maxBytes === undefined ? {} : { maxBytes }),
  });
  return { writer, ends };
}

/** What this process has open. */
function openFiles(): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)];
    } catch {
      // The one that the folder was read by.
      return [];
    }
  });
}

describe('captures', () => {
  it('are read as they were recorded', async () => {
    const path = dir.file('files', 'captures', 'a.jsonl');
    const { writer, ends } = await open(path);
    writer.record('tx', Buffer.from('0103', 'hex'));
    writer.record('rx', new Uint8Array([0, 255]));
    writer.record('rx', new Uint8Array(0));
    await writer.close();
    await writer.close();
    const records = await readCapture(path);
    expect(records.map(({ direction, bytes }) => [direction, bytes.toString('hex')])).toEqual([
      ['tx', '0103'],
      ['rx', '00ff'],
    ]);
    expect(ends).toEqual([]);
  });

  it('end before they are larger than allowed, and say so once', async () => {
    const path = dir.file('b.jsonl');
    const { writer, ends } = await open(path, 100);
    for (let index = 0; index < 50; index += 1) writer.record('rx', Buffer.alloc(8));
    await writer.close();
    expect(readFileSync(path).length).toBeLessThanOrEqual(100);
    expect((await readCapture(path)).length).toBe(2);
    expect(ends).toEqual([`${path} has reached 100 bytes. Move it away to record more from the next start on.`]);
    // Nor is the one that comes after it any larger.
    const next = await open(path, 100);
    next.writer.record('rx', Buffer.alloc(8));
    await next.writer.close();
    expect(next.ends).toEqual(ends);
    expect((await readCapture(path)).length).toBe(2);
  });

  it('go on in their file, and delete nothing', async () => {
    const path = dir.file('c', 'c.jsonl');
    for (const byte of [1, 2, 3]) {
      const { writer, ends } = await open(path);
      // The last lines are a note then, which has no time.
      if (byte !== 2) writer.record('rx', new Uint8Array([byte]));
      await writer.close();
      expect(ends).toEqual([]);
    }
    const [first, second, ...others] = await readCapture(path);
    expect(others).toEqual([]);
    expect([first?.bytes, second?.bytes]).toEqual([Buffer.from([1]), Buffer.from([3])]);
    expect((second?.atMs ?? 0) - (first?.atMs ?? 0)).toBeGreaterThanOrEqual(1000);
    expect(readFileSync(path, 'utf8').match(/^# continued at \d{4}-.*Z$/gm)).toHaveLength(2);
  });

  it('go on where a power cut had left half a line, however long the lines are', async () => {
    const path = dir.file('d.jsonl');
    const long = captureLine({ atMs: 5, direction: 'rx', bytes: Buffer.alloc(100_000, 7) });
    writeFileSync(
      path,
      `${captureLine({ atMs: 1, direction: 'tx', bytes: Buffer.of(1) })}${long}{"t":9,"dir":"rx","he`,
    );
    const { writer } = await open(path);
    writer.record('rx', Buffer.of(2));
    await writer.close();
    const times = (await readCapture(path)).map(({ atMs }) => atMs);
    expect(times).toHaveLength(3);
    expect(times[2]).toBeGreaterThanOrEqual(1005);
    expect(times[2]).toBeLessThan(60_000);
  });

  it.each(['nothing that was recorded\n', 'one line without an end', '{"t":1,"note":1}\n'])(
    'leave a file alone that is none: %j',
    async (text) => {
      const path = dir.file(`notes-${text.length}.txt`);
      writeFileSync(path, text);
      const { writer, ends } = await open(path);
      writer.record('rx', Buffer.of(2));
      await writer.close();
      expect(readFileSync(path, 'utf8')).toBe(text);
      expect(ends).toEqual([`${path} is no capture, and is left as it is.`]);
    },
  );

  it('close although they have ended by themselves long ago', async () => {
    const path = dir.file('e.jsonl');
    symlinkSync('/dev/full', dir.file('full.jsonl'));
    const full = await open(path, 50);
    for (let index = 0; index < 5; index += 1) full.writer.record('rx', Buffer.alloc(8));
    const broken = await open(dir.file('full.jsonl'));
    broken.writer.record('rx', Buffer.alloc(8));
    await waitFor(() => full.ends.length + broken.ends.length === 2);
    await waitFor(() => !openFiles().some((file) => file === path || file === '/dev/full'));
    await full.writer.close();
    await broken.writer.close();
  });

  it('that cannot be written keep nobody from working', async () => {
    const { writer, ends } = await open('/proc/nowhere/a.jsonl');
    writer.record('rx', new Uint8Array([1]));
    await writer.close();
    expect(ends).toHaveLength(1);
    expect(ends[0]).toContain('/proc/nowhere/a.jsonl');
  });

  it('leave out notes and a last line that was cut off', () => {
    const text = '# made by hand\n\n{"t":0,"dir":"rx","hex":"AB"}\n{"t":1,"dir":"r';
    expect(parseCapture(text, 'x')).toEqual([{ atMs: 0, direction: 'rx', bytes: Buffer.from([0xab]) }]);
  });

  it.each([
    ['nonsense', 'x:1: is not JSON; a line of a capture is {"t":12.5,"dir":"rx","hex":"0103…"}.'],
    ['7', 'x:1: must be an object with t, dir and hex.'],
    ['{"t":-1,"dir":"rx","hex":"00"}', 'x:1: t must be ms since the start, 0 or more.'],
    ['{"t":1,"dir":"up","hex":"00"}', 'x:1: dir must be "rx" or "tx".'],
    ['{"t":1,"dir":"rx","hex":"0"}', 'x:1: hex must be bytes in hexadecimal, two digits each.'],
    ['{"t":1,"dir":"rx","hex":""}', 'x:1: hex must be bytes in hexadecimal, two digits each.'],
  ])('refuse %s', (line, message) => {
    expect(() => parseCapture(`${line}\n\n`, 'x')).toThrowError(
      expect.objectContaining({ code: 'GW_CAPTURE_INVALID', message }) as Error,
    );
  });

  it('that are absent or binary are refused by name', async () => {
    await expect(readCapture(dir.file('absent'))).rejects.toMatchObject({ code: 'GW_CAPTURE_INVALID' });
    const path = dir.file('binary');
    writeFileSync(path, Buffer.from([0, 1, 2, 10, 3, 10]));
    await expect(readCapture(path)).rejects.toThrow(`${path}:1:`);
  });

  it('stand in their folder unless the name is absolute', () => {
    expect(capturePath('/data/files/captures', 'a.jsonl')).toBe('/data/files/captures/a.jsonl');
    expect(capturePath('/data/files/captures', '/tmp/a.jsonl')).toBe('/tmp/a.jsonl');
  });
});
