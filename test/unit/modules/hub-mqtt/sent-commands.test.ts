import { describe, expect, it } from 'vitest';
import { SentCommands } from '../../../../modules/hub-mqtt/sent-commands.ts';

describe('packet identifiers of commands', () => {
  it('are the same again for the next connection, and are free after their PUBACK', () => {
    const first = new SentCommands();
    expect(first.add({ sequenceNumber: 10, lockToken: 'a' })).toEqual({ messageId: 1, dup: false, isHeld: false });
    expect(first.add({ sequenceNumber: 11, lockToken: 'b' })).toEqual({ messageId: 2, dup: false, isHeld: false });
    expect(first.take(1)).toEqual({ sequenceNumber: 10, lockToken: 'a' });
    expect(first.take(1)).toBeUndefined();
    const second = new SentCommands(first.left);
    // Not sent on this connection yet: its PUBACK says nothing.
    expect(second.take(2)).toBeUndefined();
    expect(second.add({ sequenceNumber: 11, lockToken: 'c' })).toEqual({ messageId: 2, dup: true, isHeld: false });
    expect(second.add({ sequenceNumber: 11, lockToken: 'd' })).toEqual({ messageId: 2, dup: true, isHeld: true });
    expect(second.take(2)).toEqual({ sequenceNumber: 11, lockToken: 'd' });
  });

  it('are never used twice at a time, and never 0', () => {
    const ids = new SentCommands(new Map([[1, 0xffff]]));
    expect(ids.add({ sequenceNumber: 2, lockToken: '' }).messageId).toBe(1);
    const all = new SentCommands();
    const held = new Set([0]);
    for (let n = 0; n < 20; n += 1) held.add(all.add({ sequenceNumber: n, lockToken: '' }).messageId);
    for (let n = 20; n < 66_000; n += 1) {
      const { messageId } = all.add({ sequenceNumber: n, lockToken: '' });
      expect(held.has(messageId)).toBe(false);
      all.take(messageId);
    }
  });

  it('of messages that never came again are not carried on for ever', () => {
    let left = new Map<number, number>();
    for (let n = 0; n < 300; n += 1) {
      const ids = new SentCommands(left);
      ids.add({ sequenceNumber: n, lockToken: '' });
      left = new Map(ids.left);
    }
    expect(left.size).toBeLessThanOrEqual(51);
  });
});
