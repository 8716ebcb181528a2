// Three projects: what needs nothing but the sources, what needs real peers, and what needs the built daemon.

import { defineConfig } from 'vitest/config';

const root = new URL('..', import.meta.url).pathname;

export default defineConfig({
  root,
  test: {
    projects: [
      {
        test: {
          name: 'fast',
          root,
          include: ['test/architecture.test.ts', 'test/docs.test.ts', 'test/{unit,conformance,model}/**/*.test.ts'],
          testTimeout: 20_000,
        },
      },
      {
        test: {
          name: 'integration',
          root,
          include: ['test/integration/**/*.test.ts'],
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'e2e',
          root,
          include: ['test/e2e/**/*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          fileParallelism: false,
        },
      },
    ],
    maxWorkers: 2,
    // A bound for what never comes; one second is less than a busy machine may take.
    expect: { poll: { timeout: 10_000 } },
  },
});
