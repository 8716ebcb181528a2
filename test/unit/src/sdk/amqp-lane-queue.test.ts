import rhea from 'rhea';
import { describe, expect, it } from 'vitest';
import type { DeliveryResult } from '../../../../src/core/delivery.ts';
import { LaneQueue, type LaneEntry } from '../../../../src/sdk/amqp-lane-queue.ts';
import { encodeAmqpMessage } from '../../../../src/wire/amqp-message.ts';

interface TestEntry extends LaneEntry {
  readonly results: DeliveryResult[];
  encodedTimes: number;
}

function entryOf(text: string, rejected?: string): TestEntry {
  const results: DeliveryResult[] = [];
  const entry: TestEntry = {
    results,
    encodedTimes: 0,
    bytes: 0,
    encode: () => {
      entry.encodedTimes += 1;
      return rejected === undefined ? { bytes: encodeAmqpMessage({ data: Buffer.from(text) }) } : { rejected };
    },
    isDone: () => results.length > 0,
    answer: (result) => void results.push(result),
  };
  return entry;
}

function queueOf(limits: { readonly messages: number; readonly bytes: number } | undefined, entries: TestEntry[]) {
  const queue = new LaneQueue(limits);
  for (const entry of entries) queue.push(entry);
  return queue;
}

const MANY = { messages: 100, bytes: 100_000 };
const textOf = (bytes: unknown): string =>
  Buffer.from((rhea.message.decode(bytes as Buffer)['body'] as { content: Buffer }).content).toString();

/** Texts of the messages in a batch. */
function parts(bytes: Uint8Array): string[] {
  const { content } = rhea.message.decode(Buffer.from(bytes))['body'] as unknown as { content: Buffer[] };
  return content.map(textOf);
}

describe('messages that wait for an address', () => {
  it('go one by one without limits of a batch, in their order', () => {
    const queue = queueOf(
      undefined,
      ['a', 'b'].map((text) => entryOf(text)),
    );
    expect([queue.next(10), queue.next(10)].map((ready) => [textOf(ready?.bytes), ready?.format])).toEqual([
      ['a', 0],
      ['b', 0],
    ]);
    expect([queue.next(10), queue.size]).toEqual([undefined, 0]);
  });

  it('go together as far as number, room and bytes allow, and none is encoded twice', () => {
    const entries = Array.from({ length: 7 }, (_, index) => entryOf(String(index).repeat(100)));
    const queue = queueOf({ messages: 3, bytes: 250 }, entries);
    // Two of about 110 bytes fit, though three may.
    const first = queue.next(10);
    expect([parts(first?.bytes ?? Buffer.alloc(0)).map((text) => text[0]), first?.format]).toEqual([
      ['0', '1'],
      0x8001_3700,
    ]);
    const alone = queue.next(1);
    expect([textOf(alone?.bytes)[0], alone?.format, queue.size]).toEqual(['2', 0, 4]);
    while (queue.next(10) !== undefined);
    expect(entries.map(({ encodedTimes }) => encodedTimes)).toEqual(entries.map(() => 1));
  });

  it('leave out what is answered meanwhile, and answer what can never be sent', () => {
    const [done, bad, good] = [entryOf('done'), entryOf('bad', 'too long'), entryOf('good')] as const;
    done.answer({ status: 'accepted' });
    const queue = queueOf(MANY, [done, bad, good]);
    expect(textOf(queue.next(10)?.bytes)).toBe('good');
    expect(bad.results).toEqual([{ status: 'rejected', reason: 'too long' }]);
    expect(done.encodedTimes).toBe(0);
  });

  it('go by themselves after a batch with them was rejected, before those behind them; else share its outcome', () => {
    const entries = ['a', 'b', 'c'].map((text) => entryOf(text));
    const [a, b, c] = entries as [TestEntry, TestEntry, TestEntry];
    const queue = queueOf(MANY, [a, b]);
    const batch = queue.next(10);
    queue.push(c);
    batch?.entry.answer({ status: 'rejected', reason: 'one of them' });
    expect(entries.flatMap(({ results }) => results)).toEqual([]);
    const again = Array.from({ length: 3 }, () => queue.next(10));
    expect(again.map((ready) => [textOf(ready?.bytes), ready?.format])).toEqual([
      ['a', 0],
      ['b', 0],
      ['c', 0],
    ]);
    again[0]?.entry.answer({ status: 'rejected', reason: 'this one' });
    expect(a.results).toEqual([{ status: 'rejected', reason: 'this one' }]);
    const more = queueOf(MANY, [entryOf('d'), entryOf('e')]);
    const joined = more.next(10);
    joined?.entry.answer({ status: 'accepted' });
    expect('members' in (joined?.entry ?? {}) && joined?.entry).toMatchObject({
      members: [{ results: [{ status: 'accepted' }] }, { results: [{ status: 'accepted' }] }],
    });
  });
});
