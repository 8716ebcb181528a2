// The real modules: an adapter that hears on a broker what an endpoint publishes there.

import { expect, it } from 'vitest';
import { formatFault } from '../../../../src/config/fault.ts';
import { loadConfigText } from '../../../../src/config/load.ts';
import { ModuleCatalogue } from '../../../../src/config/schema.ts';
import { MODULES } from '../../../../src/main.ts';

const catalogue = new ModuleCatalogue(MODULES);

function warnings(adapter: string, upstream: string, more = ''): readonly string[] {
  const text = `gateway: { id: g }\nadapters:\n  field: { type: mqtt, ${adapter} }\nupstream: { ${upstream} }\n${more}`;
  const result = loadConfigText(text, { catalogue, file: 'site.yaml', env: {} });
  if (!result.ok) throw new Error(result.faults.map(formatFault).join('\n'));
  return result.loaded.warnings;
}

const attached = (url: string, topic: string) => `connect: { url: "${url}" }, topics: [{ topic: "${topic}" }]`;
const mqtt = (url: string, topic: string) => `type: mqtt, url: "${url}", topic: "${topic}"`;
const loop = (owner: string, template: string) => [
  `site.yaml:3: adapters.field.topics[0].topic: takes in what ${owner} publishes on the same broker (${template}): it comes back and is sent again, without end, unless routes keep the two apart; use another topic.`,
];

it('is told, by whatever names of one broker', () => {
  const topic = 'plant/{device_id}/telemetry';
  const told = loop('upstream', topic);
  expect(warnings(attached('mqtts://Broker.plant', topic), mqtt('mqtts://broker.plant:8883', topic))).toEqual(told);
  expect(warnings(attached('mqtt://localhost', topic), mqtt('mqtt://127.0.0.1:1883', topic))).toEqual(told);
  expect(warnings(attached('mqtt://[::1]:18', topic), mqtt('mqtt://[::1]:18', topic))).toEqual(told);
  // The broker of the gateway itself.
  const own = `listen: { port: 18, address: 0.0.0.0 }, allow_plaintext: true, anonymous: all, topics: [{ topic: "${topic}" }]`;
  expect(warnings(own, mqtt('mqtt://127.0.0.1:18', topic))).toEqual(told);
  const local = 'fieldpost/{gateway_id}/{device_id}/telemetry';
  expect(warnings(attached('mqtt://127.0.0.1:18830', 'fieldpost/g/{device_id}/#'), 'type: local')).toEqual(
    loop('upstream', local),
  );
  const sink = `endpoints: { far: { ${mqtt('mqtts://broker.plant', topic)} } }\nroutes: [{ name: far, endpoint: far }, { name: up, endpoint: $upstream }]\n`;
  expect(warnings(attached('mqtts://broker.plant', topic), 'type: local', sink)).toEqual(loop('endpoints.far', topic));
});

it('is none on another broker or topic, or where a part is switched off', () => {
  const topic = 'plant/{device_id}/telemetry';
  const url = 'mqtts://broker.plant';
  for (const [adapter, upstream] of [
    [attached(url, topic), mqtt('mqtts://broker.plant:8884', topic)],
    [attached(url, topic), mqtt('mqtts://other.plant', topic)],
    [attached(url, topic), mqtt(url, 'plant/{gateway_id}/{device_id}/telemetry')],
    [attached(url, 'plant/+/{device_id}/x'), mqtt(url, 'plant/{gateway_id}/{device_id}/telemetry')],
    [`${attached(url, topic)}, enabled: false`, mqtt(url, topic)],
    [attached(url, topic), `${mqtt(url, topic)}, enabled: false`],
    // What listens on every address here is not the broker on another machine.
    [
      `listen: { port: 8883, address: 0.0.0.0 }, allow_plaintext: true, anonymous: all, topics: [{ topic: "${topic}" }]`,
      mqtt(url, topic),
    ],
  ] as const) {
    expect(warnings(adapter, upstream)).toEqual([]);
  }
});
