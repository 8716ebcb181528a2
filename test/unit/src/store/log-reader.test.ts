import { describe, expect, it } from 'vitest';
import { LIMITS } from '../../../../src/core/limits.ts';
import { ChunkEncoder } from '../../../../src/store/chunk-encoder.ts';
import type { Chunk } from '../../../../src/store/chunk-format.ts';
import { logKey, RECORD } from '../../../../src/store/keys.ts';
import { LogReader } from '../../../../src/store/log-reader.ts';
import { MemoryLevel } from '../../../../src/store/memory-level.ts';
import { message, timestamp } from '../../../support/builders.ts';

/** A chunk of ten messages of about `bytes` in all. */
function chunkAt(firstOffset: number, bytes = 1000): Chunk {
  const encoder = new ChunkEncoder();
  encoder.start({ epoch: 'epoch', shelfMs: 5, time: timestamp() });
  for (let seq = 1; seq <= 10; seq += 1) encoder.add(message({ text: 'x'.repeat(bytes / 10) }), seq);
  return encoder.finish({ firstOffset, logBytesBefore: 0 });
}

function create(): LogReader {
  return new LogReader(new MemoryLevel(), () => false);
}

describe('The cache of chunks', () => {
  it('finds the chunk of an offset, in whatever order they came', () => {
    const reader = create();
    for (const first of [30, 10, 50, 20]) reader.remember(chunkAt(first));
    const found = [9, 10, 19, 20, 29, 30, 39, 40, 49, 50, 59, 60].map((offset) => reader.cached(offset)?.firstOffset);
    expect(found).toEqual([undefined, 10, 10, 20, 20, 30, 30, undefined, undefined, 50, 50, undefined]);
  });

  it('forgets what ends at or below an offset', () => {
    const reader = create();
    for (const first of [10, 20, 30]) reader.remember(chunkAt(first));
    reader.forgetBelow(29);
    expect([15, 25].map((offset) => reader.cached(offset)?.firstOffset)).toEqual([undefined, 20]);
    reader.forgetBelow(40);
    expect([25, 35].map((offset) => reader.cached(offset))).toEqual([undefined, undefined]);
    expect(reader.cachedBytes).toBe(0);
    reader.remember(chunkAt(40));
    expect(reader.cached(45)?.firstOffset).toBe(40);
  });

  it('lets the least recently used go when it is full, and never the newest', async () => {
    const reader = create();
    const bytes = LIMITS.chunk_cache_bytes / 4;
    for (const first of [10, 20, 30]) reader.remember(chunkAt(first, bytes));
    expect(await reader.locate(15, 100)).toMatchObject({ chunk: { firstOffset: 10 } });
    reader.remember(chunkAt(40, bytes));
    expect([15, 25, 35, 45].map((offset) => reader.cached(offset)?.firstOffset)).toEqual([10, undefined, 30, 40]);
    expect(reader.cachedBytes).toBeLessThanOrEqual(LIMITS.chunk_cache_bytes);
    reader.remember(chunkAt(50, 2 * LIMITS.chunk_cache_bytes));
    expect([15, 35, 45, 55].map((offset) => reader.cached(offset)?.firstOffset)).toEqual([
      undefined,
      undefined,
      undefined,
      50,
    ]);
  });

  it('reads back what it has forgotten', async () => {
    const level = new MemoryLevel();
    const reader = new LogReader(level, () => false);
    const chunk = chunkAt(10);
    await level.write([{ key: logKey(10, RECORD.chunk), value: chunk.bytes }]);
    reader.remember(chunk);
    reader.forgetBelow(20);
    expect(await reader.locate(15, 20)).toMatchObject({ chunk: { firstOffset: 10, count: 10 } });
  });
});
