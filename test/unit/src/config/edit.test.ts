import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { editConfigText } from '../../../../src/config/edit.ts';

const TEXT = `# A gateway.
gateway: { id: plant-7 }      # its name

adapters:      # the field
  bus-1:
    port:   502       # as printed on the device
    name: 'north'     # single quotes
    note: "a \\"b\\""
    password: !env PASSWORD   # from the unit

    tags: [a, b]
empty:
`;

describe('editConfigText', () => {
  it('changes one value and not a byte beside it', () => {
    const path = ['adapters', 'bus-1', 'port'];
    expect(editConfigText(TEXT, [{ path, value: 503 }])).toBe(TEXT.replace('502', '503'));
    expect(editConfigText(TEXT, [{ path: ['gateway', 'id'], value: 'plant-8' }])).toBe(
      TEXT.replace('plant-7', 'plant-8'),
    );
    expect(editConfigText(TEXT, [{ path: ['adapters', 'bus-1', 'name'], value: 'south west' }])).toBe(
      TEXT.replace('north', 'south west'),
    );
  });

  it('quotes what would otherwise mean something else', () => {
    for (const value of [
      '503',
      'true',
      'null',
      '~',
      '',
      ' a',
      'a: b',
      'a #b',
      '!env X',
      '*x',
      '}',
      ', id: 3',
      '- a',
      'ä\n"',
    ]) {
      for (const path of [
        ['gateway', 'id'],
        ['adapters', 'bus-1', 'name'],
        ['adapters', 'bus-1', 'note'],
      ]) {
        const edited = parse(editConfigText(TEXT, [{ path, value }]), { logLevel: 'silent' }) as Record<
          string,
          unknown
        >;
        const found = path.reduce<unknown>((at, key) => (at as Record<string, unknown>)[key], edited);
        expect(found).toBe(value);
      }
    }
  });

  it('sets any text so that it is read back the same', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (value) => {
        const edited = editConfigText(TEXT, [{ path: ['adapters', 'bus-1', 'name'], value }]);
        expect(
          (parse(edited, { logLevel: 'silent' }) as { adapters: { 'bus-1': { name: string } } }).adapters['bus-1'].name,
        ).toBe(value);
      }),
      { numRuns: 200 },
    );
  });

  it('adds maps on the way, also where nothing stood yet', () => {
    const edited = editConfigText(TEXT, [
      { path: ['empty', 'a', 'b'], value: { c: [1, 2] } },
      { path: ['adapters', 'bus-2'], value: { port: 1 } },
    ]);
    expect(parse(edited, { logLevel: 'silent' })).toMatchObject({
      empty: { a: { b: { c: [1, 2] } } },
      adapters: { 'bus-2': { port: 1 } },
    });
    for (const comment of ['# A gateway.', '# its name', '# as printed on the device', '# from the unit']) {
      expect(edited).toContain(comment);
    }
    expect(editConfigText('', [{ path: ['gateway', 'id'], value: 'x' }])).toBe('gateway:\n  id: x\n');
  });

  it('removes, and is content when there is nothing to remove', () => {
    const edited = editConfigText(TEXT, [
      { path: ['adapters', 'bus-1', 'password'], remove: true },
      { path: ['adapters', 'bus-9', 'x'], remove: true },
    ]);
    expect(edited).not.toContain('PASSWORD');
    expect(edited).toContain("name: 'north'");
  });

  it('puts a value in place of a reference and the other way round', () => {
    const path = ['adapters', 'bus-1', 'password'];
    const plain = editConfigText(TEXT, [{ path, value: 'hunter2' }]);
    expect(plain).toContain('password: hunter2');
    expect(plain).not.toContain('!env');
    const reference = editConfigText(plain, [{ path, secret: { tag: '!file', name: 'secrets/a b' } }]);
    expect(reference).toContain('password: !file secrets/a b # from the unit');
  });

  it('gives an alias its own copy before changing it', () => {
    const text = 'a: &one { x: 1 }\nb: *one\n';
    const edited = editConfigText(text, [{ path: ['b', 'x'], value: 2 }]);
    expect(parse(edited)).toEqual({ a: { x: 1 }, b: { x: 2 } });
  });

  it('refuses a path through a single value, and text that is not YAML', () => {
    expect(() => editConfigText(TEXT, [{ path: ['gateway', 'id', 'x'], value: 1 }])).toThrow(
      /gateway\.id is a single value/,
    );
    expect(() => editConfigText('a: [', [{ path: ['a'], value: 1 }])).toThrow(/not valid YAML/);
  });
});
