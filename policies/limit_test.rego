package keyward.limit_test

import data.keyward.fixture
import data.keyward.limit

test_fewer if {
	limit.fewer_within_hour(2) with input as fixture.release
	limit.fewer_within_day(3) with input as fixture.release
	limit.fewer_in_all(4) with input as fixture.release
}

test_not_fewer if {
	not limit.fewer_within_hour(1) with input as fixture.release
	not limit.fewer_within_day(2) with input as fixture.release
	not limit.fewer_in_all(3) with input as fixture.release
	not limit.fewer_in_all(0) with input as fixture.release
}

test_a_bound_that_is_no_number_never_holds if {
	not limit.fewer_within_hour("9") with input as fixture.release
	not limit.fewer_within_day(null) with input as fixture.release
	not limit.fewer_in_all([]) with input as fixture.release
}
