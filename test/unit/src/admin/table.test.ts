import { describe, expect, it } from 'vitest';
import { formatAge, formatBytes, renderTable } from '../../../../src/admin/table.ts';

describe('quantities', () => {
  it.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1536, '1.5 KiB'],
    [1_073_741_824, '1.0 GiB'],
    [5e15, '4547.5 TiB'],
  ])('%d bytes are %s', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });

  it.each([
    [0, '0 s'],
    [999, '0 s'],
    [59_999, '59 s'],
    [60_000, '1 min'],
    [3_700_000, '1 h 1 min'],
    [86_400_000, '1 d'],
    [86_460_000, '1 d'],
    [180_000_000, '2 d 2 h'],
  ])('%d ms are %s', (ms, text) => {
    expect(formatAge(ms)).toBe(text);
  });
});

describe('table', () => {
  it('aligns columns and leaves no blanks at the end', () => {
    const text = renderTable(
      [{ title: 'NAME' }, { title: 'N', align: 'right' }, { title: 'NOTE' }],
      [
        ['a', '1', ''],
        ['longer', '12345', 'x'],
      ],
    );
    expect(text).toBe('NAME        N  NOTE\na           1\nlonger  12345  x\n');
  });

  it('takes control characters of cells out', () => {
    const text = renderTable([{ title: 'A' }], [['x\u001b[31my\nz\u0007']]);
    expect(text).toBe('A\nxy z \n'.replace(' \n', '\n'));
  });
});
