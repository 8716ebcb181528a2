import { describe, expect, it } from 'vitest';
import { isListenAddress } from '../../../../src/core/listen-address.ts';
import { formatFault } from '../../../../src/config/fault.ts';
import { loadConfigText } from '../../../../src/config/load.ts';
import { ModuleCatalogue } from '../../../../src/config/schema.ts';
import { mqtt } from '../../../../modules/mqtt/index.ts';
import { simulator } from '../../../../modules/simulator/index.ts';
import { upstreamLocal } from '../../../../modules/upstream-local/index.ts';

describe('an address to listen on', () => {
  it.each([
    '127.0.0.1',
    '0.0.0.0',
    '255.255.255.255',
    '::',
    '::1',
    'fe80::1%eth0',
    '2001:db8::7',
    '::ffff:127.0.0.1',
    'localhost',
    'plant-7.local',
    'plant7',
    'a1.b2',
  ])('%s may be one', (text) => {
    expect(isListenAddress(text)).toBe(true);
  });

  it.each([
    '',
    '999.1.1.1',
    '127.0.0',
    '127.0.0.1.',
    '127.0.0.256',
    '1',
    '01.2.3.4',
    ':::',
    '12345::',
    'fe80::1%',
    '[::1]',
    '127.0.0.1:8080',
    'http://127.0.0.1',
    'all of them',
    '-plant',
    'plant-.local',
    'plant..local',
    '*',
    `${'a'.repeat(64)}.local`,
    'ab.'.repeat(84) + 'local',
  ])('%s is none', (text) => {
    expect(isListenAddress(text)).toBe(false);
  });
});

describe('every field for an address to listen on', () => {
  it.each([
    ['web.address', 'web: { address: 999.1.1.1 }'],
    ['hub.address', 'hub: { address: 999.1.1.1 }'],
    ['upstream.listen.address', 'upstream: { type: local, listen: { address: 999.1.1.1 } }'],
    ['adapters.a.listen.address', 'adapters: { a: { type: simulator, listen: { address: 999.1.1.1 } } }'],
    ['adapters.a.listen.address', 'adapters: { a: { type: mqtt, listen: { address: 999.1.1.1 } } }'],
    ['adapters.a.listen_tls.address', 'adapters: { a: { type: mqtt, listen_tls: { address: 999.1.1.1 } } }'],
    ['adapters.a.listen_ws.address', 'adapters: { a: { type: mqtt, listen_ws: { address: 999.1.1.1 } } }'],
  ])('refuses a slip in %s', (path, text) => {
    const catalogue = new ModuleCatalogue([mqtt, simulator, upstreamLocal]);
    const result = loadConfigText(text, { catalogue, file: 'x.yaml', env: {} });
    const faults = result.ok ? [] : result.faults.map(formatFault);
    expect(faults).toContainEqual(expect.stringMatching(`x.yaml:1: ${path}: must be an IP address`));
  });
});
