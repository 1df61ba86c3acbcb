-- What operators accepted: offences with these digests are not reported again.
select resolution ->> 'digest' as digest from findings where resolution ->> 'how' = 'accept' order by 1
