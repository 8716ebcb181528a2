import { describe, expect, it } from 'vitest';
import { createPartitionReaders } from '../../../../modules/hub-amqp/partition-readers.ts';
import type { AmqpError, AmqpLink } from '../../../../src/sdk/index.ts';

interface Reader {
  readonly link: AmqpLink;
  readonly epoch: number | undefined;
  /** Conditions that it was closed with. */
  readonly closed: string[];
}

function reader(epoch?: number): Reader {
  const closed: string[] = [];
  const link = { close: (error: AmqpError) => void closed.push(error.condition) } as unknown as AmqpLink;
  return { link, epoch, closed };
}

describe('readers of a partition', () => {
  it('are five side by side at most, each partition for itself', () => {
    const readers = createPartitionReaders();
    const all = Array.from({ length: 5 }, () => reader());
    for (const one of all) expect(readers.enter('a', one)).toBeUndefined();
    expect(readers.enter('a', reader())).toMatchObject({ condition: 'amqp:resource-limit-exceeded' });
    expect(readers.enter('b', reader())).toBeUndefined();
    readers.leave('a', (all[0] as Reader).link);
    expect(readers.enter('a', reader())).toBeUndefined();
  });

  it('give way to one with an epoch, and that to the same or a higher one', () => {
    const readers = createPartitionReaders();
    const none = reader();
    const low = reader(0);
    const same = reader(0);
    const high = reader(7);
    readers.enter('a', none);
    expect(readers.enter('a', low)).toBeUndefined();
    expect(none.closed).toEqual(['amqp:link:stolen']);
    expect(readers.enter('a', reader())).toMatchObject({ condition: 'amqp:link:stolen' });
    expect(readers.enter('a', same)).toBeUndefined();
    expect(low.closed).toEqual(['amqp:link:stolen']);
    expect(readers.enter('a', high)).toBeUndefined();
    expect(readers.enter('a', reader(6))).toMatchObject({ condition: 'amqp:link:stolen' });
    expect(high.closed).toEqual([]);
  });

  it('leave the partition to the next', () => {
    const readers = createPartitionReaders();
    const high = reader(7);
    readers.enter('a', high);
    readers.leave('a', high.link);
    expect(readers.enter('a', reader())).toBeUndefined();
  });

  it('do not lose the winner when a loser leaves as it is closed', () => {
    const readers = createPartitionReaders();
    const winner = reader(2);
    const loser = reader(1);
    const link = { close: () => readers.leave('a', link) } as unknown as AmqpLink;
    readers.enter('a', { ...loser, link });
    expect(readers.enter('a', winner)).toBeUndefined();
    expect(readers.enter('a', reader(1))).toMatchObject({ condition: 'amqp:link:stolen' });
  });
});
