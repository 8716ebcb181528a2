// What changes one device of a hub (identity, modules, twin, commands) happens one after the other: read, decide, write.

export interface Turns {
  /** Runs `work` when those before it under the same key have ended, however they ended. */
  run<T>(key: string, work: () => Promise<T>): Promise<T>;
}

/** Not bounded by itself: who waits is a request that a head has bounded. */
export function createTurns(): Turns {
  const last = new Map<string, Promise<unknown>>();
  return {
    run(key, work) {
      const before = last.get(key);
      const done = before === undefined ? work() : before.then(work, work);
      last.set(key, done);
      const clear = (): void => {
        if (last.get(key) === done) last.delete(key);
      };
      done.then(clear, clear);
      return done;
    },
  };
}
