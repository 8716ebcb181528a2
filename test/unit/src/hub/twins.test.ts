import { beforeEach, describe, expect, it } from 'vitest';
import { iotHubErrorOf } from '../../../../src/iothub/errors.ts';
import { HUB, hubRig, refusalOf, type HubRig } from '../../../support/hub.ts';
import { waitFor } from '../../../support/wait.ts';

let rig: HubRig;
const d1 = { deviceId: 'd1' };

beforeEach(async () => {
  rig = await hubRig();
  await rig.hub.identities.putDevice(HUB, d1, undefined);
});

const report = (patch: unknown, base?: number) => rig.hub.twins.report(HUB, d1, bytesOf(patch), base);
const bytesOf = (patch: unknown): Buffer =>
  Buffer.isBuffer(patch) ? patch : Buffer.from(typeof patch === 'string' ? patch : JSON.stringify(patch));
const own = async () => JSON.parse(Buffer.from(await rig.hub.twins.own(HUB, d1)).toString()) as unknown;
const notifications = () =>
  rig.sent.flatMap((item) =>
    item.kind === 'desired' ? [JSON.parse(Buffer.from(item.patch).toString()) as unknown] : [],
  );

function nested(levels: number): unknown {
  return levels === 0 ? 1 : { a: nested(levels - 1) };
}

describe('twins', () => {
  it('shows a device its own view, without tags and metadata', async () => {
    expect(await own()).toEqual({ desired: { $version: 1 }, reported: { $version: 1 } });
    await rig.hub.twins.patch(HUB, d1, { tags: { site: 'x' }, desired: { rate: 5 } }, '*');
    expect(await report({ rate: 5, gone: null })).toBe(2);
    expect(await own()).toEqual({ desired: { rate: 5, $version: 2 }, reported: { rate: 5, $version: 2 } });
  });

  it('merges patches, and tells when each member was changed, and in which version', async () => {
    await rig.hub.twins.patch(HUB, d1, { desired: { a: { b: 1, c: 2 }, list: [1, 2] } }, undefined);
    const first = new Date(rig.clock.wallMs()).toISOString();
    rig.clock.advance(1000);
    const second = new Date(rig.clock.wallMs()).toISOString();
    const twin = await rig.hub.twins.patch(HUB, d1, { desired: { a: { b: null, d: { e: 3 } }, list: [3] } }, undefined);
    expect(twin).toMatchObject({ etag: 'AAAAAAAAAAM=', version: 4, connectionState: 'Disconnected' });
    const at = (time: string, version: number) => ({ $lastUpdated: time, $lastUpdatedVersion: version });
    expect((twin['properties'] as Record<string, unknown>)['desired']).toEqual({
      a: { c: 2, d: { e: 3 } },
      list: [3],
      $metadata: {
        ...at(second, 3),
        a: { ...at(second, 3), c: at(first, 2), d: { ...at(second, 3), e: at(second, 3) } },
        list: at(second, 3),
      },
      $version: 3,
    });
  });

  it('keeps members in the order in which they came, and names like any other', async () => {
    await report('{"z":1,"__proto__":{"polluted":true},"constructor":2,"a":3}');
    expect(Buffer.from(await rig.hub.twins.own(HUB, d1)).toString()).toBe(
      '{"desired":{"$version":1},"reported":{"z":1,"__proto__":{"polluted":true},"constructor":2,"a":3,"$version":2}}',
    );
    await report('{"__proto__":{"more":1},"z":null}');
    expect(Buffer.from(await rig.hub.twins.own(HUB, d1)).toString()).toContain(
      '"reported":{"__proto__":{"polluted":true,"more":1},"constructor":2,"a":3,"$version":3}',
    );
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });

  it('replaces both sections', async () => {
    await rig.hub.twins.patch(HUB, d1, { tags: { a: 1 }, desired: { a: 1, b: 2 } }, '*');
    await rig.connect(d1, { interests: ['desired'] });
    const twin = await rig.hub.twins.replace(HUB, d1, { desired: { c: 3, none: null } }, '*');
    expect(twin).toMatchObject({ tags: {}, properties: { desired: { c: 3, $version: 3 } } });
    await waitFor(() => notifications().length === 1);
    expect(notifications()).toEqual([{ c: 3, $version: 3 }]);
  });

  it('tells the device after the write, when it wants to know', async () => {
    const { sessionId } = await rig.connect(d1);
    await rig.hub.twins.patch(HUB, d1, { desired: { a: 1 } }, '*');
    rig.hub.sessions.setInterests(sessionId, ['desired']);
    await rig.hub.twins.patch(HUB, d1, { tags: { a: 1 } }, '*');
    await rig.hub.twins.patch(HUB, d1, { desired: { a: null, b: { c: 2 } } }, '*');
    await waitFor(() => notifications().length > 0);
    expect(notifications()).toEqual([{ a: null, b: { c: 2 }, $version: 3 }]);
  });

  it('refuses stale etags and stale versions', async () => {
    const { etag } = await rig.hub.twins.get(HUB, d1);
    await rig.hub.twins.patch(HUB, d1, { tags: { a: 1 } }, etag as string);
    expect(await refusalOf(rig.hub.twins.patch(HUB, d1, { tags: { a: 2 } }, etag as string))).toBe(
      'PreconditionFailed',
    );
    expect(await refusalOf(rig.hub.twins.replace(HUB, d1, {}, etag as string))).toBe('PreconditionFailed');
    expect(await report({ a: 1 }, 1)).toBe(2);
    expect(await refusalOf(report({ a: 2 }, 1))).toBe('PreconditionFailed');
    expect(await rig.hub.twins.get(HUB, d1)).toMatchObject({ tags: { a: 1 }, properties: { reported: { a: 1 } } });
  });

  it.each([
    ['no JSON', '{"a":', 'IotHubFormatError'],
    ['no object', '[1]', 'ArgumentInvalid'],
    ['null', 'null', 'ArgumentInvalid'],
    ['a dot', { 'a.b': 1 }, 'ArgumentInvalid'],
    ['a dollar', { $a: 1 }, 'ArgumentInvalid'],
    ['a blank', { x: { 'a b': 1 } }, 'ArgumentInvalid'],
    ['a control character', { 'a\u0085': 1 }, 'ArgumentInvalid'],
    ['an empty name', { '': 1 }, 'ArgumentInvalid'],
    ['a long name', { ['k'.repeat(1025)]: 1 }, 'ArgumentInvalid'],
    ['a long text', { a: 'x'.repeat(4097) }, 'ArgumentInvalid'],
    ['a long text in two bytes each', { a: 'é'.repeat(2049) }, 'ArgumentInvalid'],
    ['a large integer', { a: 2 ** 52 }, 'ArgumentInvalid'],
    ['a small integer', { a: -(2 ** 52) - 1 }, 'ArgumentInvalid'],
    ['an infinite number', '{"a":1e999}', 'ArgumentInvalid'],
    ['a null in an array', { a: [1, null] }, 'ArgumentInvalid'],
    ['a null in an object in an array', { a: [[{ b: { c: null } }]] }, 'ArgumentInvalid'],
    ['bytes that are no UTF-8', Buffer.from('7b22ff223a317d', 'hex'), 'IotHubFormatError'],
    ['eleven levels of objects', nested(12), 'ArgumentInvalid'],
    [
      'too much',
      Object.fromEntries(Array.from({ length: 9 }, (_, i) => [`k${i}`, 'x'.repeat(4000)])),
      'ArgumentInvalid',
    ],
  ])('refuses %s, and changes nothing', async (_what, patch, name) => {
    expect(await refusalOf(report(patch))).toBe(name);
    expect(await own()).toEqual({ desired: { $version: 1 }, reported: { $version: 1 } });
  });

  it('tells no client what its parser of JSON says', async () => {
    const error = await report('{"a":').catch((cause: unknown) => iotHubErrorOf(cause));
    expect(error).toMatchObject({ message: 'The patch is not JSON in UTF-8.', info: {} });
  });

  it.each([
    ['ten levels of objects', nested(11)],
    ['the longest text', { a: 'x'.repeat(4096) }],
    ['the largest integers', { a: 2 ** 52 - 1, b: -(2 ** 52), c: 1.5e-3 }],
    ['floating-point numbers without a fraction', { a: 1e22, b: -1.5e300 }],
    ['32 KB', Object.fromEntries(Array.from({ length: 8 }, (_, i) => [`k${i}`, 'x'.repeat(4094)]))],
    ['arrays of objects', { a: [{ b: [1, 'x', true] }] }],
  ])('takes %s', async (_what, patch) => {
    await report(patch);
    expect(await own()).toMatchObject({ reported: patch });
  });

  it('takes what was read and is sent back, and less of tags', async () => {
    await rig.hub.twins.patch(HUB, d1, { desired: { a: 1 } }, '*');
    const { properties } = (await rig.hub.twins.get(HUB, d1)) as { properties: { desired: unknown } };
    const twin = await rig.hub.twins.replace(HUB, d1, { desired: properties.desired }, '*');
    expect(twin).toMatchObject({ properties: { desired: { a: 1, $version: 3 } } });
    const tags = Object.fromEntries(Array.from({ length: 3 }, (_, i) => [`k${i}`, 'x'.repeat(4000)]));
    expect(await refusalOf(rig.hub.twins.patch(HUB, d1, { tags }, '*'))).toBe('ArgumentInvalid');
  });
});
