// What the tests of a file have opened, to be ended after each of them.

import { afterEach } from 'vitest';

/** A list of ends; after each test they are called, the newest first. */
export function endsAfterEach(): (() => Promise<unknown>)[] {
  const ends: (() => Promise<unknown>)[] = [];
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
  });
  return ends;
}
