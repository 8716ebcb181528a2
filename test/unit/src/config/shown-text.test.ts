import { expect, it } from 'vitest';
import { parse } from 'yaml';
import { ModuleCatalogue } from '../../../../src/config/schema.ts';
import { shownText } from '../../../../src/config/shown-text.ts';
import { MODULES } from '../../../../src/main.ts';

const catalogue = new ModuleCatalogue(MODULES);

const TEXT = `# A site.
adapters:
  field: # the broker
    type: mqtt
    listen: {}
    clients:
      - { username: pump, password: clear-1, devices: [pump] } # the pump
      - { username: fan, password: !env FAN }
      - { username: &name clear-2, password: *name }
    presets: [tasmota]
  other:
    type: mqtt
    connect:
      url: mqtts://a:clear-3@broker
      password: "clear-4"
      key: |
        -----BEGIN PRIVATE KEY-----
        clear-5
        -----END PRIVATE KEY-----
      username: anna
upstream: { type: mqtt, url: 'mqtts://x', proxy: { url: 'http://p', password: 'clear-6' } }
`;

it('hides secrets that stand in clear, and leaves all else as it was written', () => {
  const shown = shownText(TEXT, catalogue) ?? '';
  expect(shown).not.toContain('clear-');
  expect(shown).not.toContain('PRIVATE KEY');
  expect(shown).toContain('{ username: pump, password: ***, devices: [pump] } # the pump\n');
  expect(shown).toContain('password: !env FAN }');
  expect(shown).toContain('      key: ***\n      username: anna\n');
  expect(shown.replaceAll('***', '').length).toBeGreaterThan(400);
  // Applied by mistake it is refused.
  expect(() => void parse(shown)).toThrow(/alias/);
});

it('hides them in a text with faults too', () => {
  const faulty =
    'adapters: { a: { type: mqt, clients: [{ username: x, password: clear-1, api_token: 12345 }] }, b: { type: mqtt, clients: [{ password: 12345 }] } }';
  expect(shownText(faulty, catalogue)).not.toMatch(/clear|12345/);
  expect(shownText('a: [', catalogue)).toBeUndefined();
});

it('changes nothing where there is nothing to hide', () => {
  const text = "# x\nweb: { port: 8080 }\nupstream: { type: mqtt, url: 'mqtts://x', password: !env P }\n";
  expect(shownText(text, catalogue)).toBe(text);
});
