import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { SystemClock } from '../../../../src/platform/clock.ts';
import { capturePath, CaptureWriter, parseCapture, readCapture } from '../../../../src/wire/capture.ts';
import { createTempDir } from '../../../support/temp-dir.ts';

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
    expect(ends).toEqual([`${path} has reached 100 bytes.`]);
  });

  it('keep the one before', async () => {
    const path = dir.file('c', 'c.jsonl');
    for (const byte of [1, 2]) {
      const { writer } = await open(path);
      writer.record('rx', new Uint8Array([byte]));
      await writer.close();
    }
    expect((await readCapture(`${path}.previous`))[0]?.bytes).toEqual(Buffer.from([1]));
    expect((await readCapture(path))[0]?.bytes).toEqual(Buffer.from([2]));
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
