import { describe, expect, it } from 'vitest';
import type { LoadedConfig } from '../../../../src/config/config.ts';
import { diffConfig, partsToRestart } from '../../../../src/config/diff.ts';
import { loadConfigText } from '../../../../src/config/load.ts';
import { parseDeviceId } from '../../../../src/core/device.ts';
import { fakeCatalogue } from './fake-modules.ts';

function load(text: string, env: Record<string, string> = {}, id = 'fieldpost-1'): LoadedConfig {
  const options = { catalogue: fakeCatalogue, file: 'x.yaml', env, defaultGatewayId: parseDeviceId(id) };
  const result = loadConfigText(text, options);
  if (!result.ok) throw new Error(JSON.stringify(result.faults));
  return result.loaded;
}

const lines = (before: string, after: string): string[] =>
  diffConfig(load(before), load(after), fakeCatalogue).map(
    ({ path, kind, part, apply }) => `${path} ${kind} ${part} ${apply}`,
  );

const METER = (timeoutMs: number, unitId = 1): string => `
adapters:
  bus-1:
    type: meter
    transport: { kind: tcp, host: a, timeout_ms: ${timeoutMs} }
    devices: { m: { unit_id: ${unitId}, points: { v: { register: input:0 } } } }
`;

describe('diffConfig', () => {
  it('finds nothing in comments, order and defaults written out', () => {
    expect(lines('web: { port: 8080, address: 127.0.0.1 }', '# x\nweb: { address: 127.0.0.1 }\nversion: 1')).toEqual(
      [],
    );
  });

  it('tells live fields from those that restart their part, through unions and defaults', () => {
    expect(lines(METER(1000), METER(500))).toEqual(['adapters.bus-1.transport.timeout_ms changed adapter:bus-1 live']);
    expect(lines(METER(1000), METER(1000, 2))).toEqual([
      'adapters.bus-1.devices.m.unit_id changed adapter:bus-1 restart_part',
    ]);
    expect(lines('outbox: { max_age_secs: 5 }', 'outbox: { max_age_secs: 6 }')).toEqual([
      'outbox.max_age_secs changed outbox live',
    ]);
    expect(lines('web: { port: 1 }', 'web: { port: 2 }')).toEqual(['web.port changed web restart_part']);
  });

  it('takes added and removed entries as changes of their part only', () => {
    const one = 'adapters: { a: { type: listener, port: 1 } }';
    const two = 'adapters: { a: { type: listener, port: 1 }, b: { type: listener, port: 2 } }';
    expect(lines(one, two)).toEqual(['adapters.b added adapter:b restart_part']);
    expect(lines(two, one)).toEqual(['adapters.b removed adapter:b restart_part']);
    expect(lines('', 'upstream: { type: broker, url: "tls://x" }')).toEqual(['upstream added upstream restart_part']);
  });

  it('takes a change of type for a replacement', () => {
    const before = 'endpoints: { a: { type: broker, url: "tls://x" } }';
    const after = 'endpoints: { a: { type: archive, folder: y } }';
    expect(lines(before, after)).toEqual(['endpoints.a.type changed endpoint:a restart_part']);
  });

  it('sees a secret change behind the same reference, and never tells it', () => {
    const text = 'upstream: { type: broker, url: "tls://x", password: !env P }';
    const changes = diffConfig(load(text, { P: 'old-secret' }), load(text, { P: 'new-secret' }), fakeCatalogue);
    expect(changes).toEqual([{ path: 'upstream.password', kind: 'changed', part: 'upstream', apply: 'restart_part' }]);
  });

  it('restarts everything when the id of the gateway changes, also the default one', () => {
    const changes = diffConfig(load('', {}, 'a'), load('', {}, 'b'), fakeCatalogue);
    expect([...partsToRestart(changes)]).toEqual(['gateway']);
    expect(lines('gateway: { id: a }', 'gateway: { id: b }')).toEqual(['gateway.id changed gateway restart_part']);
  });

  it('compares routes by place', () => {
    const route = (condition: string): string => `
upstream: { type: broker, url: "tls://x" }
routes: [{ name: a, endpoint: $upstream, condition: "${condition}" }]`;
    expect(lines(route('true'), route('false'))).toEqual(['routes[0].condition changed routes restart_part']);
  });
});
