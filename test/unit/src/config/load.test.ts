import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isMap, isScalar, type Document } from 'yaml';
import { configInvalidError, loadConfigFile, loadConfigText, type LoadOptions } from '../../../../src/config/load.ts';
import { formatFault, pathText } from '../../../../src/config/fault.ts';
import { defaultGatewayId } from '../../../../src/config/machine-id.ts';
import { migrateDocument, type Migration } from '../../../../src/config/migrate.ts';
import { showValues } from '../../../../src/config/show.ts';
import { ModuleCatalogue } from '../../../../src/config/schema.ts';
import { starterConfig } from '../../../../src/config/starter.ts';
import { LIMITS } from '../../../../src/core/limits.ts';
import { MODULES } from '../../../../src/main.ts';
import { checkCondition } from '../../../../src/pipeline/condition.ts';
import { fakeCatalogue, fakeModules } from './fake-modules.ts';

const options: LoadOptions = { catalogue: fakeCatalogue, file: 'site.yaml', env: {} };

function load(text: string, more: Partial<LoadOptions> = {}) {
  const result = loadConfigText(text, { ...options, ...more });
  if (!result.ok) throw new Error(result.faults.map(formatFault).join('\n'));
  return result.loaded;
}

function faults(text: string, more: Partial<LoadOptions> = {}): string[] {
  const result = loadConfigText(text, { ...options, ...more });
  return result.ok ? [] : result.faults.map(formatFault);
}

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fieldpost-load-'));
});

afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

describe('a good configuration', () => {
  it('keeps an endpoint whose sealing key cannot be read as a part that cannot run', () => {
    const text = 'endpoints: { a: { type: archive, folder: x, seal: { recipients: [!file none.pem] } } }\n';
    expect(faults(text)).toEqual([
      expect.stringMatching(/^site.yaml:1: endpoints.a.seal.recipients\[0\]: !file none.pem: there is no file /),
    ]);
    const [endpoint] = load(text, { keepsUnresolved: true }).config.endpoints;
    expect(endpoint).toMatchObject({ name: 'a', fault: expect.stringMatching(/seal.recipients/) as string });
    expect(endpoint).not.toHaveProperty('seal');
  });

  it('has every default', () => {
    const { config } = load('gateway: { id: plant-7 }\nadapters:\nupstream:\n');
    expect(config).toEqual({
      version: 1,
      gatewayId: 'plant-7',
      adapters: [],
      endpoints: [],
      routes: [],
      messages: {},
      outbox: {
        maxBytes: 1_073_741_824,
        maxAgeSecs: 2_592_000,
        minFreeBytes: 268_435_456,
        whenFull: 'drop_oldest',
        commitIntervalMs: 0,
        pollCommitIntervalMs: 0,
      },
      web: { enabled: true, port: 8080, address: '127.0.0.1' },
    });
  });

  it('splits what is common from what is the module’s', () => {
    const { config } = load(`
adapters: { a: { type: listener, port: 5, enabled: false } }
upstream: { type: broker, url: "tls://x", order: strict }
endpoints: { b: { type: archive, folder: y, max_bytes: 70000 } }
routes: [{ name: r, endpoint: b }]`);
    expect(config.adapters).toEqual([
      { id: 'a', type: 'listener', enabled: false, simulate: false, settings: { port: 5, tags: [] } },
    ]);
    expect(config.upstream).toEqual({
      name: '$upstream',
      type: 'broker',
      enabled: true,
      order: 'strict',
      settings: { url: 'tls://x', topic: 'telemetry' },
    });
    expect(config.endpoints).toEqual([
      { name: 'b', type: 'archive', enabled: true, order: 'live_first', maxBytes: 70_000, settings: { folder: 'y' } },
    ]);
    expect(config.routes).toEqual([
      { name: 'r', source: 'DeviceMessages', condition: 'true', endpoint: 'b', enabled: true },
    ]);
  });

  it('takes the grammar of the contract, with the modules of this build', () => {
    const text = `
version: 1
gateway: { id: plant-7 }
adapters:
  bus-1:
    type: modbus
    transport: { kind: tcp, host: 10.0.0.5, port: 502 }
    devices:
      meter-1:
        unit_id: 1
        poll_interval_ms: 1000
        points:
          voltage: { register: input:0, type: float32, unit: V }
          energy:  { register: holding:0x156, type: uint64, byte_order: CDAB, scale: 0.01, unit: kWh, deadband: 0.1, heartbeat_secs: 60 }
          relay:   { register: coil:0, writable: true }
upstream:
  type: mqtt
  url: mqtts://broker.example:8883
  topic: "fieldpost/{gateway_id}/{device_id}/telemetry"
routes:    [{ name: alarms, source: DeviceMessages, condition: "level = 'alarm'", endpoint: cloud-2 }]
endpoints: { cloud-2: { type: mqtt, url: "mqtts://x", max_bytes: 104857600, order: strict } }
outbox: { max_bytes: 1073741824, max_age_secs: 2592000, min_free_bytes: 268435456, when_full: drop_oldest, commit_interval_ms: 0 }
hub: { enabled: false, address: 127.0.0.1, host_name: gateway.local, mqtts_port: 8883, amqps_port: 5671, https_port: 443,
       events: { partitions: 4, retention_hours: 24, max_bytes: 536870912 } }
web: { port: 8080, address: 127.0.0.1 }
`;
    expect(faults(text, { catalogue: new ModuleCatalogue(MODULES), checkCondition })).toEqual([]);
  });

  it('takes the starter, with the modules of this build', () => {
    const { config, warnings } = load(starterConfig(), { catalogue: new ModuleCatalogue(MODULES), checkCondition });
    expect(warnings).toEqual([]);
    expect(config.adapters.map(({ type }) => type)).toEqual(['simulator', 'modbus', 'mqtt', 'serial']);
    expect([config.upstream, config.hub?.hostName]).toEqual([undefined, 'localhost']);
  });
});

describe('secrets', () => {
  const TEXT = `upstream:
  type: broker
  url: !env URL
  username: !credential user
  password: !file password
`;

  it('reach the module whole and are shown as references', async () => {
    await writeFile(join(folder, 'password'), 'sesame open\r\n');
    await writeFile(join(folder, 'user'), 'anna\n\n');
    const env = { URL: 'tls://x:y-secret@z', CREDENTIALS_DIRECTORY: folder };
    const loaded = load(TEXT, { file: join(folder, 'site.yaml'), env });
    expect(loaded.config.upstream?.settings).toMatchObject({
      url: 'tls://x:y-secret@z',
      username: 'anna\n',
      password: 'sesame open',
    });
    const shown = showValues(loaded.values, fakeCatalogue, loaded.secrets);
    expect(shown).toMatchObject({
      upstream: { url: '!env URL', username: '!credential user', password: '!file password', topic: 'telemetry' },
    });
    expect(loaded.secrets.redactText('login anna\n with sesame open at tls://x:y-secret@z')).not.toMatch(
      /sesame|y-secret/,
    );
    expect(loaded.warnings).toEqual([]);
  });

  it('are warned of and hidden when they stand in the file', () => {
    const loaded = load(
      'upstream: { type: broker, url: "tls://a:b@x", password: hunter2 }\nendpoints: { e: { type: broker, url: "tls://x", password: !env P } }\nroutes: [{ name: e, endpoint: e, condition: x = 1 }]',
      { env: { P: 'from-env' } },
    );
    expect(loaded.warnings).toHaveLength(2);
    expect(loaded.warnings.join('\n')).toMatch(/^site\.yaml:1: upstream\.password: a secret stands in the file/m);
    const shown = JSON.stringify(showValues(loaded.values, fakeCatalogue, loaded.secrets));
    expect(shown).not.toMatch(/hunter2|from-env|a:b@/);
    expect(shown).toContain('"password":"***"');
    expect(loaded.warnings.join()).not.toContain('hunter2');
    const nested = load('upstream: { type: broker, url: "tls://x", login: { name: anna, key: hunter2 } }');
    expect(nested.warnings).toHaveLength(2);
    expect(JSON.stringify(showValues(nested.values, fakeCatalogue, nested.secrets))).not.toMatch(/anna|hunter2/);
  });

  it('refuses names of credentials that lead elsewhere', () => {
    const env = { CREDENTIALS_DIRECTORY: folder };
    for (const name of ['../x', '..', 'a/b']) {
      const text = `upstream: { type: broker, url: "tls://x", password: !credential "${name}" }`;
      expect(faults(text, { env })[0]).toContain('is not the name of a credential');
    }
  });
});

describe('the size of a file', () => {
  it('is bounded, and a large one is quick to refuse', () => {
    const text = `# ${'x'.repeat(LIMITS.config_bytes)}`;
    expect(faults(text)[0]).toContain(`the most is ${LIMITS.config_bytes}`);
  });

  it('allows thousands of devices, and not more than the limit', () => {
    const devices = (count: number): string =>
      Array.from(
        { length: count },
        (_, index) => `      d-${index}: { unit_id: 1, points: { v: { register: input:0 } } }`,
      ).join('\n');
    const text = (count: number): string =>
      `adapters:\n  a:\n    type: meter\n    transport: { kind: tcp, host: x }\n    devices:\n${devices(count)}\n`;
    expect(Object.keys(load(text(1000)).config.adapters[0]?.settings['devices'] ?? {})).toHaveLength(1000);
    expect(faults(text(LIMITS.devices + 1))).toEqual([
      `site.yaml:1: adapters: ${LIMITS.devices + 1} devices; the most is ${LIMITS.devices}.`,
    ]);
  });
});

describe('a file', () => {
  it('is told when it is missing, a folder, or not UTF-8', async () => {
    expect(() => loadConfigFile(join(folder, 'no.yaml'), options)).toThrow(/There is no configuration/);
    expect(() => loadConfigFile(folder, options)).toThrow(/is not a file/);
    await writeFile(join(folder, 'latin1.yaml'), Buffer.from('gateway: { id: caf\xe9 }', 'latin1'));
    expect(() => loadConfigFile(join(folder, 'latin1.yaml'), options)).toThrow(/UTF-8/);
    await writeFile(join(folder, 'good.yaml'), '\uFEFFgateway: { id: a }\r\nweb: { port: 1 }\r\n');
    expect(loadConfigFile(join(folder, 'good.yaml'), options).ok).toBe(true);
  });

  it('gives one error with all its faults', () => {
    const result = loadConfigText('a: 1\nb: 2\n', options);
    if (result.ok) throw new Error('It has faults.');
    const error = configInvalidError(result.faults);
    expect(error).toMatchObject({ code: 'GW_CONFIG_INVALID' });
    expect(error.details['faults']).toHaveLength(2);
  });
});

describe('migrations', () => {
  const rename: Migration = {
    from: 1,
    migrate(document: Document) {
      const { contents } = document;
      if (!isMap(contents)) return;
      for (const { key } of contents.items) if (isScalar(key) && key.value === 'site') key.value = 'gateway';
    },
  };
  const migration = (document: Document): number | undefined => migrateDocument(document, [rename], 2);

  it('keep comments, and give the text of the new version beside what is loaded', () => {
    const text = '# mine\nsite: { id: a } # here\n';
    // The schema of this release reads version 1; the fake one writes 2, which is put back for the test.
    const back = (document: Document): number | undefined => {
      const from = migration(document);
      document.set('version', 1);
      return from;
    };
    const loaded = load(text, { migration: back });
    expect(loaded.config.gatewayId).toBe('a');
    expect(loaded.text).toBe(text);
    expect(loaded.migrated).toEqual({ from: 1, text: '# mine\ngateway: { id: a } # here\nversion: 1\n' });
  });

  it('leave newer and unreadable versions to the schema, and refuse a gap', () => {
    expect(faults('version: 7\n', { migration })).toEqual([
      'site.yaml:1: version: must be 1, the version that this release reads; found 7.',
    ]);
    expect(faults('version: one\n')[0]).toContain('found "one"');
    expect(() => load('version: 1\n', { migration: (document) => migrateDocument(document, [rename], 3) })).toThrow(
      /no migration from version 2/,
    );
  });
});

describe('small parts', () => {
  it('names the gateway after its machine without telling the machine’s id', () => {
    const id = defaultGatewayId('0123456789abcdef0123456789abcdef');
    expect(id).toMatch(/^fieldpost-[0-9a-f]{6}$/);
    expect(defaultGatewayId('0123456789abcdef0123456789abcdef')).toBe(id);
    expect(defaultGatewayId('1123456789abcdef0123456789abcdef')).not.toBe(id);
    expect('0123456789abcdef0123456789abcdef').not.toContain(id.slice(-6));
  });

  it('writes paths as people write them', () => {
    expect(pathText(['adapters', 'bus-1', 'devices', 'm 1', 'tags', 0])).toBe('adapters.bus-1.devices."m 1".tags[0]');
  });

  it('does not let a module take the name or the fields of another', () => {
    expect(() => new ModuleCatalogue([...fakeModules, ...fakeModules])).toThrow(/two modules of type/);
  });
});

describe('the number of faults', () => {
  it('is bounded, and says how many more there are', () => {
    const text = Array.from({ length: LIMITS.config_faults + 5 }, (_, index) => `x${index}: 1\n`).join('');
    const found = faults(text);
    expect(found).toHaveLength(LIMITS.config_faults + 1);
    expect(found.at(-1)).toBe(`site.yaml:${LIMITS.config_faults + 1}: 5 more faults from here on.`);
  });
});
