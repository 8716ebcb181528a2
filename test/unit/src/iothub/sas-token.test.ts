import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { iotHubErrorName } from '../../../../src/iothub/errors.ts';
import {
  audienceCovers,
  audienceIdentity,
  audiencesOf,
  makeSasToken,
  parseAudience,
  parseSasToken,
  sasEndMs,
  signingKey,
} from '../../../../src/iothub/sas-token.ts';
import { hmacSha256, sameBytes } from '../../../../src/platform/hmac.ts';

const KEY = 'MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=';
const OTHER = 'ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=';
const crypto = { hmacSha256, sameBytes };
const keys = { primaryKey: KEY, secondaryKey: OTHER };

/** contract/device-auth.md, section 4: `sr` as in the token, `sig`. */
const VECTORS = [
  ['hub.local.test%2Fdevices%2Fdev-1', 'XjK794QCTll29f%2FpfzHwDshNpTRrMILMkm5PUjnLTBE%3D'],
  ['hub.local.test%2fdevices%2fdev-1', 'KdgtscSHaozpzi44g6qsbTwb2HfrnsZdWR1lI8bWc%2FU%3D'],
  ['hub.local.test/devices/dev-1', 'vJMKc%2FEtQy02zpv%2FEcPYzxF7Kp%2BdRPECa2h0gvGk7Ag%3D'],
  ['hub.local.test%2Fdevices%2Fdev-1%2Fmodules%2Fmod-1', 'faJc7ZVUzJx7hIPfbx%2FJw8uBpy49rd%2FkQ1%2FOdLMRPRU%3D'],
  ['hub.local.test', 'HMBdtoHpgF94hTlL4yklVDw0sGt%2B3RtGYfmGqynu%2F8Q%3D'],
  ['0ne00000001%2Fregistrations%2Freg-1', '8i6DqivQdVJewH0GQWQwnnmAL8%2FPD76dWfRPaOo1rNY%3D'],
  ['0ne00000001/registrations/reg-1', 'qcESjonZse%2FOpol%2BNSgF6lcc40GKSYp8wy6YnXbF3L8%3D'],
] as const;

describe('a token', () => {
  it.each(VECTORS)('for %s is taken', (sr, sig) => {
    for (const text of [
      `SharedAccessSignature sr=${sr}&sig=${sig}&se=2000000000`,
      `SharedAccessSignature sig=${sig}&se=2000000000&sr=${sr}`,
      `SharedAccessSignature sr=${sr}&sig=${sig}&se=2000000000&skn=`,
      `SharedAccessSignature SR=${sr}&SIG=${sig.toLowerCase().includes('%2f') ? sig.replaceAll('%2F', '%2f') : sig}&skn=iothubowner&SE=2000000000`,
      // Python leaves slashes as they are, and a plus is a digit of base64 however it is written.
      `SharedAccessSignature sr=${sr}&sig=${decodeURIComponent(sig)}&se=2000000000`,
    ]) {
      const token = parseSasToken(text);
      expect(token.resource).toBe(sr);
      expect(signingKey(token, keys, 'base64', crypto)).toBe('primary');
      expect(signingKey(token, { primaryKey: OTHER, secondaryKey: KEY }, 'either', crypto)).toBe('secondary');
      expect(signingKey(token, { primaryKey: OTHER, secondaryKey: '' }, 'either', crypto)).toBeUndefined();
      expect(signingKey(token, keys, 'text', crypto)).toBeUndefined();
    }
  });

  it('is taken as it was made, and in no other form', () => {
    const anyForm = fc.constantFrom('base64' as const, 'text' as const);
    const anyText = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 60 });
    fc.assert(
      fc.property(
        anyText,
        fc.uint8Array({ minLength: 16, maxLength: 64 }),
        anyForm,
        fc.option(anyText),
        (resource, bytes, keyForm, policy) => {
          const key = Buffer.from(bytes).toString('base64');
          const made = makeSasToken(
            { resource, key, keyForm, expiresAtMs: 1_999_999_999_001, ...(policy === null ? {} : { policy }) },
            crypto,
          );
          const token = parseSasToken(made);
          expect(token.policy).toBe(policy ?? undefined);
          expect(token.expiresAtMs).toBe(2_000_000_000_000);
          expect(decodeURIComponent(token.resource)).toBe(resource);
          const pair = { primaryKey: KEY, secondaryKey: key };
          expect(signingKey(token, pair, keyForm, crypto)).toBe('secondary');
          expect(signingKey(token, pair, 'either', crypto)).toBe('secondary');
          expect(signingKey(token, pair, keyForm === 'text' ? 'base64' : 'text', crypto)).toBeUndefined();
        },
      ),
    );
  });

  it('is refused when one character of what is signed changed', () => {
    const [sr, sig] = VECTORS[0];
    const later = parseSasToken(`SharedAccessSignature sr=${sr}&sig=${sig}&se=2000000001`);
    const wider = parseSasToken(`SharedAccessSignature sr=${sr.slice(0, -1)}&sig=${sig}&se=2000000000`);
    expect(signingKey(later, keys, 'either', crypto)).toBeUndefined();
    expect(signingKey(wider, keys, 'either', crypto)).toBeUndefined();
  });

  it.each([
    '',
    'Bearer abc',
    'SharedAccessSignature',
    'SharedAccessSignature ',
    'SharedAccessSignature sr=h&se=1',
    'SharedAccessSignature sig=AAAA&se=1&sr=h',
    `SharedAccessSignature sr=h&sig=${'A'.repeat(43)}%3&se=1`,
    `SharedAccessSignature sr=h&sig=${'A'.repeat(43)}%3D&se=soon`,
    `SharedAccessSignature sr=h&sig=${'A'.repeat(43)}%3D&se=-1`,
    `SharedAccessSignature sr=&sig=${'A'.repeat(43)}%3D&se=1`,
    `SharedAccessSignature sr=h&sr=i&sig=${'A'.repeat(43)}%3D&se=1`,
    `SharedAccessSignature sr=${'h'.repeat(9000)}&sig=${'A'.repeat(43)}%3D&se=1`,
  ])('that reads %s is refused', (text) => {
    let thrown: unknown;
    try {
      parseSasToken(text);
    } catch (error) {
      thrown = error;
    }
    expect(iotHubErrorName(thrown)).toBe('IotHubUnauthorized');
  });

  it('never throws anything else, whatever is sent', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (tail) => {
        try {
          parseSasToken(`SharedAccessSignature ${tail}`);
        } catch (error) {
          expect(iotHubErrorName(error)).toBe('IotHubUnauthorized');
        }
      }),
    );
  });

  it('ends five minutes after its time', () => {
    const token = parseSasToken(`SharedAccessSignature sr=h&sig=${'A'.repeat(43)}%3D&se=1000`);
    expect(sasEndMs(token)).toBe(1_000_000 + 300_000);
  });
});

describe('an audience', () => {
  const first = (resource: string) => audiencesOf(resource)[0];

  it('is read through every encoding', () => {
    const d1 = { host: 'hub.local', path: ['devices', 'd1'] };
    expect(first('Hub.Local%2fdevices%2Fd1')).toEqual(d1);
    expect(audiencesOf('hub.local/devices/d1')).toEqual([d1]);
    expect(first('sb%3A%2F%2Fhub.local%3A5671%2Fdevices%2Fd1')).toEqual(d1);
    expect(parseAudience('amqps://hub.local/devices/d1/')).toEqual(d1);
    expect(first('hub.local')).toEqual({ host: 'hub.local', path: [] });
  });

  it('is also what it may mean to the SDKs for C and C#', () => {
    const devices = (resource: string) => audiencesOf(resource).map((audience) => audience.path[1]);
    expect(devices('h/devices/a%41')).toEqual(['aA', 'a%41']);
    expect(devices('h%2Fdevices%2Fa%2540')).toEqual(['a%40', undefined, 'a@']);
    expect(devices('h/devices/100%')).toEqual(['100%']);
  });

  it('covers by whole segments', () => {
    const covers = (audience: string, path: string) =>
      audienceCovers(parseAudience(audience), path.split('/').filter(Boolean));
    expect(covers('h', 'devices/d1')).toBe(true);
    expect(covers('h/devices', 'devices/d1/modules/m')).toBe(true);
    expect(covers('h/Devices/D1', 'devices/d1')).toBe(true);
    expect(covers('h/devices/d1', 'devices/d10')).toBe(false);
    expect(covers('h/devices/d1/modules/m', 'devices/d1')).toBe(false);
    expect(covers('h/messages/events', 'messages/events/$management')).toBe(true);
  });

  it('names its device or module', () => {
    expect(audienceIdentity(parseAudience('h/devices/d1/modules/m1/messages'))).toEqual({
      deviceId: 'd1',
      moduleId: 'm1',
    });
    expect(audienceIdentity(parseAudience('h/devices/d1/messages/events'))).toEqual({ deviceId: 'd1' });
    expect(audienceIdentity(parseAudience('h/devices'))).toBeUndefined();
    expect(audienceIdentity(parseAudience('h/messages/events'))).toBeUndefined();
  });
});
