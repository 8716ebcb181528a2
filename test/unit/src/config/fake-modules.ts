// Modules with a bit of everything that a schema can hold, so that messages do not change with the real ones.

import { z } from 'zod';
import type { Clock } from '../../../../src/core/clock.ts';
import type { Logger } from '../../../../src/core/log.ts';
import type { ModuleDefinition } from '../../../../src/core/module.ts';
import { ModuleCatalogue } from '../../../../src/config/schema.ts';
import { defineAdapter, defineEndpoint, defineUpstream } from '../../../../src/sdk/define.ts';

const never = (): Promise<never> => Promise.reject(new Error('A fake module is never loaded.'));

const transport = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('tcp'),
    host: z.string().min(1),
    port: z.int().min(1).max(65_535).default(502),
    timeout_ms: z.int().min(10).default(1000).meta({ apply: 'live' }),
  }),
  z.strictObject({ kind: z.literal('rtu'), path: z.string().min(1), baud_rate: z.int().default(19_200) }),
]);

const point = z.strictObject({
  register: z.union([z.string().regex(/^(input|holding):\d+$/, { error: 'must be input:N or holding:N' }), z.int()]),
  type: z.enum(['bool', 'int16', 'float32', 'float64']).default('int16'),
  unit: z.string().min(1).max(8).optional(),
  scale: z.number().optional(),
  writable: z.boolean().default(false),
});

const meter = defineAdapter({
  type: 'meter',
  config: z.strictObject({
    transport,
    devices: z.record(
      z.string(),
      z.strictObject({
        unit_id: z.int().min(1).max(247),
        poll_interval_ms: z.int().min(10).default(1000),
        points: z.record(z.string(), point),
      }),
    ),
  }),
  check: (config) =>
    Object.entries(config.devices)
      .filter(([, device]) => Object.keys(device.points).length === 0)
      .map(([id]) => ({ path: ['devices', id, 'points'], message: 'has no point; name at least one.' })),
  load: never,
});

const listener = defineAdapter({
  type: 'listener',
  config: z.strictObject({ port: z.int().min(1).max(65_535), tags: z.array(z.string()).max(2).default([]) }),
  load: never,
});

const broker = defineUpstream({
  type: 'broker',
  config: z.strictObject({
    url: z.url({ error: 'must be a URL such as mqtts://broker.example:8883' }),
    topic: z.string().min(1).default('telemetry').meta({ apply: 'live' }),
    username: z.string().optional(),
    login: z.strictObject({ name: z.string(), key: z.string() }).optional().meta({ secret: true }),
    password: z.string().min(3).optional().meta({ secret: true }),
  }),
  check: (config) =>
    config.url.startsWith('plain:') ? [{ path: ['url'], message: `${config.url} is not encrypted.` }] : [],
  load: never,
});

const archive = defineEndpoint({ type: 'archive', config: z.strictObject({ folder: z.string() }), load: never });

export const fakeModules: readonly ModuleDefinition[] = [meter, listener, broker, archive];
export const fakeCatalogue = new ModuleCatalogue(fakeModules);

/** A clock that moves when it is told to. */
export class HandClock implements Clock {
  readonly bootId = 'boot-1';
  nowMs = 1_000_000;

  wallMs(): number {
    return Date.UTC(2026, 0, 2) + this.nowMs;
  }

  monotonicMs(): number {
    return this.nowMs;
  }

  quality(): 'synced' {
    return 'synced';
  }

  now(): ReturnType<Clock['now']> {
    return { bootId: this.bootId, monotonicMs: this.nowMs, wallMs: this.wallMs(), clock: 'synced' };
  }

  sleep(): Promise<void> {
    return Promise.resolve();
  }

  after(): () => void {
    return () => {};
  }
}

/** Keeps what was said. */
export class ListLogger implements Logger {
  readonly lines: string[] = [];

  debug(fields: object, sentence: string): void {
    this.#add('debug', fields, sentence);
  }

  info(fields: object, sentence: string): void {
    this.#add('info', fields, sentence);
  }

  warn(fields: object, sentence: string): void {
    this.#add('warn', fields, sentence);
  }

  error(fields: object, sentence: string): void {
    this.#add('error', fields, sentence);
  }

  child(): Logger {
    return this;
  }

  #add(level: string, fields: object, sentence: string): void {
    this.lines.push(`${level} ${sentence} ${JSON.stringify(fields)}`);
  }
}
