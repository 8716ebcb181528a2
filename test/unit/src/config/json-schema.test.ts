import { createRequire } from 'node:module';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { renderJsonSchema } from '../../../../src/config/json-schema.ts';
import { renderReference } from '../../../../src/config/reference.ts';
import { starterConfig } from '../../../../src/config/starter.ts';
import { MODULES } from '../../../../src/main.ts';
import { fakeModules } from './fake-modules.ts';

interface Validate {
  (value: unknown): boolean;
}
interface AjvLike {
  compile(schema: unknown): Validate;
}

// A validator that nobody here wrote: fastify's own, taken from beside it, so that its version follows fastify's.
const AJV = ['ajv', 'dist', '2020'].join('/');
const require = createRequire(createRequire(import.meta.url).resolve('fastify'));
const { default: Ajv } = require(AJV) as { default: new (options: object) => AjvLike };

function compile(schema: unknown): Validate {
  return new Ajv({
    strict: true,
    strictTypes: false,
    keywords: ['x-unit', 'x-apply', 'x-secret'],
    formats: { uri: true },
  }).compile(schema);
}

describe('the JSON Schema', () => {
  it('takes the starter and refuses what the loader refuses', () => {
    const validate = compile(renderJsonSchema(MODULES));
    const starter = parse(starterConfig()) as Record<string, unknown>;
    expect(validate(starter)).toBe(true);
    expect(validate({ ...starter, version: 2 })).toBe(false);
    expect(validate({ ...starter, adapter: {} })).toBe(false);
    expect(validate({ ...starter, upstream: { type: 'nothing' } })).toBe(false);
    expect(validate({ ...starter, web: { port: 0 } })).toBe(false);
  });

  it('tells modules apart by type and adds the common fields', () => {
    const validate = compile(renderJsonSchema(fakeModules));
    expect(validate({ adapters: { a: { type: 'listener', port: 5, enabled: false } } })).toBe(true);
    expect(validate({ adapters: { a: { type: 'listener', port: 5, order: 'strict' } } })).toBe(false);
    expect(validate({ adapters: { a: { type: 'broker', url: 'tls://x' } } })).toBe(false);
    expect(validate({ endpoints: { a: { type: 'broker', url: 'tls://x', order: 'strict' } } })).toBe(true);
    expect(validate({ upstream: { type: 'archive', folder: 'x' } })).toBe(false);
    expect(validate({ adapters: { 'a b': { type: 'listener', port: 5 } } })).toBe(false);
  });

  it('lets a profile say what a device and its points have to say', () => {
    const validate = compile(renderJsonSchema(MODULES));
    const site = (meter: object): object => ({
      adapters: { bus: { type: 'modbus', transport: { kind: 'tcp', host: 'a' }, devices: { meter } } },
    });
    expect(validate(site({ profile: 'eastron-sdm630' }))).toBe(true);
    expect(validate(site({ profile: 'eastron-sdm630', points: { voltage_l1: { decimals: 1 } } }))).toBe(true);
    expect(validate(site({ profile: 'eastron-sdm630', points: { voltage_l1: { decimal: 1 } } }))).toBe(false);
    expect(validate(site({ points: { a: { register: 'input:0' } } }))).toBe(true);
    expect(validate(site({ points: { a: { decimals: 1 } } }))).toBe(false);
    expect(validate(site({ unit_id: 3 }))).toBe(false);
  });

  it('refuses every entry where a build has no module for it', () => {
    const validate = compile(renderJsonSchema([]));
    expect(validate({})).toBe(true);
    expect(validate({ upstream: { type: 'mqtt' } })).toBe(false);
  });

  it('marks secrets and live fields', () => {
    const text = JSON.stringify(renderJsonSchema(fakeModules));
    expect(text).toContain('"x-secret":true');
    expect(text).toContain('"x-apply":"live"');
  });
});

describe('the reference', () => {
  const reference = renderReference(fakeModules);

  it('has a row for each field, with type, default, change and meaning', () => {
    for (const row of [
      '| `outbox.max_bytes` | whole number, at least 1048576 | `1073741824` | live |',
      '| `outbox.when_full` | `drop_oldest`, `drop_newest`, `reject` | `drop_oldest` | live |',
      '| `transport (kind: tcp).timeout_ms` | whole number, at least 10 | `1000` | live |',
      '| `transport (kind: rtu).path` | text | **required** | restart |',
      '| `devices.<name>.points.<name>.register` | text or whole number | **required** | restart |',
      '| `tags` | list of text | `[]` | restart |',
      '| `password` | text |  | restart | A secret. |',
      '| `routes[].endpoint` | text | **required** | restart |',
      '| `hub.events.partitions` | whole number, 1 to 32 | `4` | restart |',
    ]) {
      expect(reference).toContain(row);
    }
  });

  it('has every field of the modules of this build', () => {
    const whole = renderReference(MODULES);
    for (const module of MODULES) {
      expect(whole).toContain(`\`type: ${module.type}\``);
      for (const field of Object.keys(module.config.shape))
        expect(whole).toMatch(new RegExp(`^\\| \`${field}[.\` (\\[]`, 'm'));
    }
  });
});
