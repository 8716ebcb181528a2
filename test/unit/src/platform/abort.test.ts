import { getEventListeners } from 'node:events';
import { describe, expect, it } from 'vitest';
import { Notifier } from '../../../../src/platform/abort.ts';

/** Which of the waits have ended by now, and how. */
function watch(waits: readonly Promise<void>[]): () => Promise<string> {
  const ends = waits.map(() => '-');
  waits.forEach((wait, index) => {
    wait.then(
      () => (ends[index] = 'w'),
      () => (ends[index] = 'x'),
    );
  });
  return async () => {
    await new Promise((resolve) => setImmediate(resolve));
    return ends.join('');
  };
}

describe('Notifier', () => {
  it('wakes all who wait, and nobody who comes later', async () => {
    const notifier = new Notifier();
    notifier.notify();
    const ends = watch([notifier.wait(), notifier.wait(new AbortController().signal)]);
    expect(await ends()).toBe('--');
    notifier.notify();
    const later = watch([notifier.wait()]);
    expect([await ends(), await later()]).toEqual(['ww', '-']);
  });

  it('ends the waits of a signal, and of no other', async () => {
    const notifier = new Notifier();
    const one = new AbortController();
    const other = new AbortController();
    const ends = watch([
      notifier.wait(one.signal),
      notifier.wait(other.signal),
      notifier.wait(),
      notifier.wait(one.signal),
    ]);
    one.abort();
    expect(await ends()).toBe('x--x');
    await expect(notifier.wait(one.signal)).rejects.toMatchObject({ code: 'GW_ABORTED' });
    notifier.notify();
    expect(await ends()).toBe('xwwx');
  });

  it('listens to a signal once, however often it waits with it', async () => {
    const notifier = new Notifier();
    const { signal } = new AbortController();
    for (let round = 0; round < 100; round += 1) {
      const woken = notifier.wait(signal);
      notifier.notify();
      await woken;
    }
    expect(getEventListeners(signal, 'abort')).toHaveLength(1);
  });

  it('wakes those who wait again while they are woken at the next time only', async () => {
    const notifier = new Notifier();
    let woken = 0;
    const again = async (): Promise<void> => {
      await notifier.wait();
      woken += 1;
      return again();
    };
    void again();
    for (let round = 1; round <= 3; round += 1) {
      notifier.notify();
      await new Promise((resolve) => setImmediate(resolve));
      expect(woken).toBe(round);
    }
  });
});
