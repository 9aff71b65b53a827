"""AES-CMAC and AES-EAX against the vectors their authors published."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.comm.auth import eax

RFC_4493_KEY = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
RFC_4493_TEXT = bytes.fromhex(
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)

# Message, key, nonce, header, ciphertext with tag: Bellare, Rogaway, Wagner (2004), the appendix.
EAX_VECTORS = (
    (
        "",
        "233952DEE4D5ED5F9B9C6D6FF80FF478",
        "62EC67F9C3A4A407FCB2A8C49031A8B3",
        "6BFB914FD07EAE6B",
        "E037830E8389F27B025A2D6527E79D01",
    ),
    (
        "F7FB",
        "91945D3F4DCBEE0BF45EF52255F095A4",
        "BECAF043B0A23D843194BA972C66DEBD",
        "FA3BFD4806EB53FA",
        "19DD5C4C9331049D0BDAB0277408F67967E5",
    ),
    (
        "1A47CB4933",
        "01F74AD64077F2E704C0F60ADA3DD523",
        "70C3DB4F0D26368400A10ED05D2BFF5E",
        "234A3463C1264AC6",
        "D851D5BAE03A59F238A23E39199DC9266626C40F80",
    ),
    (
        "481C9E39B1",
        "D07CF6CBB7F313BDDE66B727AFD3C5E8",
        "8408DFFF3C1A2B1292DC199E46B7D617",
        "33CCE2EABFF5A79D",
        "632A9D131AD4C168A4225D8E1FF755939974A7BEDE",
    ),
    (
        "40D0C07DA5E4",
        "35B6D0580005BBC12B0587124557D2C2",
        "FDB6B06676EEDC5C61D74276E1F8E816",
        "AEB96EAEBE2970E9",
        "071DFE16C675CB0677E536F73AFE6A14B74EE49844DD",
    ),
    (
        "4DE3B35C3FC039245BD1FB7D",
        "BD8E6E11475E60B268784C38C62FEB22",
        "6EAC5C93072D8E8513F750935E46DA1B",
        "D4482D1CA78DCE0F",
        "835BB4F15D743E350E728414ABB8644FD6CCB86947C5E10590210A4F",
    ),
    (
        "8B0A79306C9CE7ED99DAE4F87F8DD61636",
        "7C77D6E813BED5AC98BAA417477A2E7D",
        "1A8C98DCD73D38393B2BF1569DEEFC19",
        "65D2017990D62528",
        "02083E3979DA014812F59F11D52630DA30137327D10649B0AA6E1C181DB617D7F2",
    ),
    (
        "1BDA122BCE8A8DBAF1877D962B8592DD2D56",
        "5FFF20CAFAB119CA2FC73549E20F5B0D",
        "DDE59B97D722156D4D9AFF2BC7559826",
        "54B9F04E6A09189A",
        "2EC47B2C4954A489AFC7BA4897EDCDAE8CC33B60450599BD02C96382902AEF7F832A",
    ),
    (
        "6CF36720872B8513F6EAB1A8A44438D5EF11",
        "A4A4782BCFFD3EC5E7EF6D8C34A56123",
        "B781FCF2F75FA5A8DE97A9CA48E522EC",
        "899A175897561D7E",
        "0DE18FD0FDD91E7AF19F1D8EE8733938B1E8E7F6D2231618102FDB7FE55FF1991700",
    ),
    (
        "CA40D7446E545FFAED3BD12A740A659FFBBB3CEAB7",
        "8395FCF1E95BEBD697BD010BC766AAC3",
        "22E7ADD93CFC6393C57EC0B3C17D6B44",
        "126735FCC320D25A",
        "CB8920F87A6C75CFF39627B56E3ED197C552D295A7CFC46AFC253B4652B1AF3795B124AB6E",
    ),
)

keys = st.binary(min_size=16, max_size=16)


@pytest.mark.parametrize(
    ("length", "mac"),
    [
        (0, "bb1d6929e95937287fa37d129b756746"),
        (16, "070a16b46b4d4144f79bdd9dd04a287c"),
        (40, "dfa66747de9ae63030ca32611497c827"),
        (64, "51f0bebf7e3b9d92fc49741779363cfe"),
    ],
)
def test_cmac_agrees_with_rfc_4493(length: int, mac: str) -> None:
    assert eax.cmac(RFC_4493_KEY, RFC_4493_TEXT[:length]).hex() == mac


@pytest.mark.parametrize("vector", EAX_VECTORS)
def test_eax_agrees_with_the_paper(vector: tuple[str, str, str, str, str]) -> None:
    message, key, nonce, header, sealed = (bytes.fromhex(field) for field in vector)
    ciphertext, tag = eax.encrypt(key, nonce, header, message)
    assert ciphertext + tag == sealed
    assert eax.decrypt(key, nonce, header, ciphertext, tag) == message


@given(keys, keys, st.binary(max_size=40), st.binary(max_size=40))
def test_what_was_encrypted_is_decrypted(
    key: bytes, nonce: bytes, header: bytes, plaintext: bytes
) -> None:
    ciphertext, tag = eax.encrypt(key, nonce, header, plaintext)
    assert eax.decrypt(key, nonce, header, ciphertext, tag) == plaintext


@given(st.data())
def test_one_changed_bit_anywhere_is_noticed(data: st.DataObject) -> None:
    key, nonce, header = bytes(range(16)), bytes(16), b"twenty-two octets here"
    ciphertext, tag = eax.encrypt(key, nonce, header, b"\x80")
    parts = [key, nonce, header, ciphertext, tag]
    which = data.draw(st.integers(0, len(parts) - 1))
    bit = data.draw(st.integers(0, 8 * len(parts[which]) - 1))
    changed = bytearray(parts[which])
    changed[bit // 8] ^= 1 << bit % 8
    parts[which] = bytes(changed)
    with pytest.raises(eax.TagMismatch):
        eax.decrypt(*parts)


@given(st.binary(max_size=15) | st.binary(min_size=17, max_size=20))
def test_a_tag_of_another_length_does_not_fit(tag: bytes) -> None:
    ciphertext, _ = eax.encrypt(bytes(16), bytes(16), b"", b"x")
    with pytest.raises(eax.TagMismatch):
        eax.decrypt(bytes(16), bytes(16), b"", ciphertext, tag)
