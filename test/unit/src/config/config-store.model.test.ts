// The configuration against a crash at any moment: random changes, each cut off before its nth write, and a new start.
// What runs then must follow from the file alone: a good text runs, a bad one falls back, an unconfirmed trial never runs.

import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, it, vi } from 'vitest';
import { ConfigStore } from '../../../../src/config/config-store.ts';
import { LIMITS } from '../../../../src/core/limits.ts';
import { isGatewayError } from '../../../../src/core/errors.ts';
import { fakeModules, HandClock, ListLogger } from './fake-modules.ts';

/** Writes until the power goes; then every one fails, those of error handling too. */
const power = vi.hoisted(() => ({ writesLeft: Number.POSITIVE_INFINITY }));

vi.mock(import('../../../../src/platform/files.ts'), async (original) => {
  const real = await original();
  return {
    ...real,
    writeFileAtomic: (...args: Parameters<typeof real.writeFileAtomic>) => {
      power.writesLeft -= 1;
      return power.writesLeft < 0 ? Promise.reject(new Error('The power is out.')) : real.writeFileAtomic(...args);
    },
  };
});

type Step =
  | {
      readonly kind: 'propose' | 'trial' | 'edit' | 'break';
      readonly healthy: boolean;
      readonly crashAfter?: number | undefined;
    }
  | {
      readonly kind: 'confirm' | 'revert' | 'reload' | 'restart';
      readonly healthy: boolean;
      readonly crashAfter?: number | undefined;
    };

const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom('propose', 'trial', 'edit', 'break', 'confirm', 'revert', 'reload', 'restart'),
  healthy: fc.boolean(),
  crashAfter: fc.option(fc.nat({ max: 5 }), { nil: undefined, freq: 2 }),
});

class World {
  readonly folder: string;
  readonly path: string;
  /** Texts that are on trial and not confirmed, or were taken back: they never run after a start. */
  readonly refused = new Set<string>();
  /** A trial whose confirmation the crash may have cut off: either outcome is right. */
  undecided: string | undefined;
  store!: ConfigStore;
  #count = 0;

  constructor(folder: string) {
    this.folder = folder;
    this.path = join(folder, 'fieldpost.yaml');
  }

  text(good: boolean): string {
    this.#count += 1;
    return good ? `gateway: { id: g-${this.#count} }\n` : `gateway: { idd: g-${this.#count} }\n`;
  }

  file(): Promise<string> {
    return readFile(this.path, 'utf8');
  }

  async start(): Promise<void> {
    power.writesLeft = Number.POSITIVE_INFINITY;
    const before = await this.file();
    this.store = await ConfigStore.open({
      configPath: this.path,
      dataDirectory: this.folder,
      modules: fakeModules,
      clock: new HandClock(),
      log: new ListLogger(),
      env: {},
    });
    const { loaded, faults } = await this.store.load();
    if (before.includes('idd')) {
      expect(faults).not.toEqual([]);
      expect(await this.file()).toBe(before);
    } else if (!this.refused.has(before) && before !== this.undecided) {
      expect(loaded.text).toBe(before);
      expect(faults).toEqual([]);
    }
    if (this.undecided !== undefined && loaded.text !== this.undecided) this.refused.add(this.undecided);
    this.undecided = undefined;
    expect(loaded.text).not.toContain('idd');
    expect([...this.refused]).not.toContain(loaded.text);
    expect(this.store.list().length).toBeLessThanOrEqual(LIMITS.config_generations);
    expect(this.store.trial()).toBeUndefined();
    await this.store.markHealthy(this.store.current().generation.number);
  }

  async run({ kind, healthy, crashAfter }: Step): Promise<void> {
    power.writesLeft = crashAfter ?? Number.POSITIVE_INFINITY;
    try {
      await this.#act(kind, healthy);
    } catch (error) {
      if (!isGatewayError(error)) throw error;
    }
    if (power.writesLeft < 0 || kind === 'restart') await this.start();
  }

  async #act(kind: Step['kind'], healthy: boolean): Promise<void> {
    const { store } = this;
    const current = store.current().generation;
    switch (kind) {
      case 'propose': {
        const { generation } = await store.propose(this.text(true), {
          actor: 'test',
          base: store.current().generation.number,
        });
        if (healthy) await store.markHealthy(generation.number);
        return;
      }
      case 'trial': {
        const text = this.text(true);
        // Refused from the first moment: only a confirmation makes it good.
        this.refused.add(text);
        await store.propose(text, { actor: 'test', base: store.current().generation.number, trialSecs: 60 });
        return;
      }
      case 'edit':
      case 'break':
        await writeFile(this.path, this.text(kind === 'edit'));
        if (healthy) await store.reload();
        return;
      case 'confirm': {
        const text = store.current().loaded.text;
        const onTrial = store.trial() !== undefined;
        if (onTrial) {
          this.refused.delete(text);
          this.undecided = text;
        }
        await store.confirm(current.number);
        this.undecided = undefined;
        return;
      }
      case 'revert': {
        const text = store.current().loaded.text;
        const base = await store.read(current.base).catch(() => undefined);
        const change = await store.revert(current.number);
        this.refused.add(text);
        expect(change.loaded.text).toBe(base);
        // Not being able to write the file does not keep the base from running.
        if (power.writesLeft >= 0) expect(await this.file()).toBe(base);
        return;
      }
      case 'reload':
        await store.reload();
        return;
      case 'restart':
        return;
      default:
        kind satisfies never;
    }
  }
}

it('runs what the file says after a crash at any write', { timeout: 120_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 25 }), async (steps) => {
      const folder = await mkdtemp(join(tmpdir(), 'fieldpost-config-model-'));
      try {
        const world = new World(folder);
        await writeFile(world.path, world.text(true));
        await world.start();
        for (const one of steps) await world.run(one);
        await world.start();
      } finally {
        power.writesLeft = Number.POSITIVE_INFINITY;
        await rm(folder, { recursive: true, force: true });
      }
    }),
    { numRuns: Number(process.env['FIELDPOST_MODEL_RUNS'] ?? 60) },
  );
});
